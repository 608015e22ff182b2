//! The best destination out of thousands, without looking at each.
//!
//! Nodes that can take something are kept in the order of the most they could score. Only the way to a node depends on
//! the source. Nodes that a link leads to are looked at one by one, and of the
//! rest as many as could still beat the best found so far. What is found is exactly what looking at every node would
//! find, because every bound is one: a node's load only grows while a plan is made.

use crate::feasibility::Context;
use crate::model::Workload;
use crate::overload::Metric;
use crate::score::{bound, least_cost, total, unknown_way};

/// Rounding moves a score by at most this.
const ROUNDING: f64 = 0.0001;

/// The fewest nodes of a promising order that are looked at anyway, as a divisor.
const FEW: usize = 8;

/// Open nodes, the most promising first.
pub(crate) struct Ranking {
    nodes: Vec<(f64, usize)>,
    way: f64,
    /// The same nodes by their room, the roomiest first: what they can still give, in cores times their speed.
    by_room: Vec<(f64, usize)>,
    /// The most free memory that any of them has, as a fraction of its capacity.
    memory: f64,
}

impl Ranking {
    pub(crate) fn new(context: &Context<'_, '_>) -> Self {
        let Context { projection, policy, .. } = *context;
        let open = (0..projection.len()).filter(|at| context.is_open(*at));
        let mut nodes: Vec<(f64, usize)> = open.map(|at| (bound(projection, at, policy), at)).collect();
        nodes.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let (cpu_limit, memory_limit) = (1.0 - policy.headroom.cpu, 1.0 - policy.headroom.memory);
        let room = |at: usize| {
            let node = projection.node(at);
            (cpu_limit - projection.load(at).cpu.unwrap_or(0.0)) * node.cpus * node.cpu_score
        };
        let mut by_room: Vec<(f64, usize)> = nodes.iter().map(|(_, at)| (room(*at), *at)).collect();
        by_room.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let free = nodes.iter().map(|(_, at)| memory_limit - projection.load(*at).memory.unwrap_or(0.0));
        let memory = free.fold(0.0, f64::max);
        Self { nodes, way: unknown_way(projection, policy), by_room, memory }
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
        if least.memory > self.memory + 1e-9 {
            return None;
        }
        let demand = workload.cpus * projection.node(source).cpu_score;
        let roomy = self.by_room.partition_point(|(room, _)| *room + 1e-9 >= demand);
        if roomy == 0 {
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
        // Few have the room: then they are all there is to look at. A node's room only shrinks while a plan is made.
        if roomy * FEW < self.nodes.len() {
            for (_, at) in &self.by_room[..roomy] {
                best = consider(*at, best);
            }
            return best.map(|(_, at)| at);
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
