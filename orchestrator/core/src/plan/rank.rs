//! The best destination out of thousands, without looking at each.
//!
//! Nodes that can take something are kept in the order of the most they could score. Only the way to a node depends on
//! the source, and it is unknown for all but the nodes that a link leads to: those are looked at one by one, and of the
//! rest as many as could still beat the best found so far. What is found is exactly what looking at every node would
//! find, because every bound is one: a node's load only grows while a plan is made.

use crate::feasibility::Context;
use crate::model::Workload;
use crate::overload::Metric;
use crate::score::{bound, least_cost, total, unknown_way};

/// Rounding moves a score by at most this.
const ROUNDING: f64 = 0.0001;

/// Open nodes, the most promising first.
pub(crate) struct Ranking {
    nodes: Vec<(f64, usize)>,
    way: f64,
    /// The most room for CPU and memory that any of them has, as fractions of its capacity.
    room: (f64, f64),
}

impl Ranking {
    pub(crate) fn new(context: &Context<'_, '_>) -> Self {
        let Context { projection, policy, .. } = *context;
        let open = (0..projection.len()).filter(|at| context.is_open(*at));
        let mut nodes: Vec<(f64, usize)> = open.map(|at| (bound(projection, at, policy), at)).collect();
        nodes.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let room = |limit: f64, used: Option<f64>| limit - used.unwrap_or(0.0);
        let room = nodes.iter().map(|(_, at)| projection.load(*at)).fold((0.0f64, 0.0f64), |(cpu, memory), load| {
            let (cpu_limit, memory_limit) = (1.0 - policy.headroom.cpu, 1.0 - policy.headroom.memory);
            (cpu.max(room(cpu_limit, load.cpu)), memory.max(room(memory_limit, load.memory)))
        });
        Self { nodes, way: unknown_way(projection, policy), room }
    }

    /// The open nodes, the most promising first.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = usize> {
        self.nodes.iter().map(|(_, at)| *at)
    }

    /// The feasible destination with the highest score; of equals the first by name.
    pub(crate) fn best(
        &self,
        context: &Context<'_, '_>,
        workload: &Workload,
        source: usize,
        pressing: &[Metric],
    ) -> Option<usize> {
        let Context { projection, policy, .. } = *context;
        let least = projection.least_share(workload, source);
        // A little more than the room, because sums are rounded.
        if least.cpu > self.room.0 + 1e-9 || least.memory > self.room.1 + 1e-9 {
            return None;
        }
        let limits = (1.0 - policy.headroom.cpu, 1.0 - policy.headroom.memory);
        let mut best: Option<(f64, usize)> = None;
        let consider = |at: usize, best: Option<(f64, usize)>| {
            let after = projection.load_with(workload, source, at);
            let room = after.cpu.is_some_and(|cpu| cpu <= limits.0) && after.memory.is_some_and(|m| m <= limits.1);
            // The cheapest question first: most nodes of a busy cluster fail it.
            if at == source || !room || !context.is_feasible(workload, source, at, pressing) {
                return best;
            }
            let score = total(projection, workload, source, at, after, policy);
            match best {
                Some((top, first)) if top > score || (top == score && first <= at) => best,
                _ => Some((score, at)),
            }
        };
        for at in projection.neighbours(source) {
            best = consider(*at, best);
        }
        let most = self.way - least_cost(projection, least) + ROUNDING;
        for (bound, at) in &self.nodes {
            if best.is_some_and(|(top, _)| bound + most < top) {
                break;
            }
            best = consider(*at, best);
        }
        best.map(|(_, at)| at)
    }
}
