//! Who decides: Fogshift's planner, and what people use elsewhere, as far as its rules are published. Each sees the same
//! samples; each has the same number of moves a minute.

use fog_core::policy::Mode;
use fog_core::{Action, Policy, plan};

use crate::day::{Day, Move, OVERLOADED};

/// A way to decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balancer {
    /// Nobody.
    None,
    /// The thesis: an overloaded node gives one container to the node of the lowest utilization and delay.
    Thesis,
    /// Every overloaded node gives its largest containers to the idlest node until it is below the threshold.
    Greedy,
    /// The Kubernetes descheduler's LowNodeUtilization with its documented example (below 20 % is under-, above 50 %
    /// over-utilized), every five minutes.
    LowNodeUtilization,
    /// As DRS: every five minutes the move that lowers the standard deviation most, while that is above the target and the
    /// move worth its cost.
    Drs,
    /// fog-core with its default policy.
    Fogshift,
    /// fog-core with `mode = "balance"`.
    FogshiftBalance,
}

impl Balancer {
    /// Everyone.
    pub const ALL: [Self; 7] = [
        Self::None,
        Self::Thesis,
        Self::Greedy,
        Self::LowNodeUtilization,
        Self::Drs,
        Self::Fogshift,
        Self::FogshiftBalance,
    ];

    /// What the table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "no balancing",
            Self::Thesis => "the thesis's rule",
            Self::Greedy => "threshold-greedy",
            Self::LowNodeUtilization => "LowNodeUtilization",
            Self::Drs => "DRS-like",
            Self::Fogshift => "Fogshift",
            Self::FogshiftBalance => "Fogshift, balance",
        }
    }

    /// What to move this minute.
    pub fn decide(self, day: &Day, minute: usize, policy: &Policy) -> Vec<Move> {
        let at_once = usize::try_from(policy.concurrency.cluster).unwrap_or(usize::MAX);
        let mut moves = match self {
            Self::None => Vec::new(),
            Self::Thesis => thesis(day),
            Self::Greedy => greedy(day),
            Self::LowNodeUtilization if minute.is_multiple_of(5) => low_node_utilization(day, at_once * 5),
            Self::Drs if minute.is_multiple_of(5) => return drs(day, at_once * 5),
            Self::LowNodeUtilization | Self::Drs => Vec::new(),
            Self::Fogshift => fogshift(day, policy),
            Self::FogshiftBalance => fogshift(day, &Policy { mode: Mode::Balance, ..policy.clone() }),
        };
        moves.truncate(if self == Self::LowNodeUtilization { at_once * 5 } else { at_once });
        moves
    }
}

fn fogshift(day: &Day, policy: &Policy) -> Vec<Move> {
    let snapshot = &day.snapshot;
    // Nodes and workloads are listed by name.
    let actions = plan(snapshot, policy, snapshot.at).actions;
    let place = |action: &Action| match action {
        Action::Migrate(migrate) => {
            let workload = snapshot.workloads.binary_search_by(|workload| workload.name.cmp(&migrate.workload)).ok()?;
            Some((workload, snapshot.nodes.binary_search_by(|node| node.name.cmp(&migrate.to)).ok()?))
        }
        Action::Resize(_) => None,
    };
    actions.iter().filter_map(place).collect()
}

/// The overloaded nodes that are up, the worst first.
fn hot(day: &Day, loads: &[f64]) -> Vec<usize> {
    let mut hot: Vec<usize> = (0..loads.len()).filter(|at| day.is_up(*at) && loads[*at] >= OVERLOADED).collect();
    hot.sort_by(|a, b| loads[*b].total_cmp(&loads[*a]).then(a.cmp(b)));
    hot
}

fn best(day: &Day, cost: impl Fn(usize) -> f64, but: usize) -> Option<usize> {
    (0..day.snapshot.nodes.len())
        .filter(|at| *at != but && day.is_up(*at))
        .min_by(|a, b| cost(*a).total_cmp(&cost(*b)).then(a.cmp(b)))
}

fn thesis(day: &Day) -> Vec<Move> {
    let (loads, lists) = (day.loads(), day.by_node());
    let delay = |a: usize, b: usize| day.links.get(&(a, b)).map_or(100.0, |link| link.0) / 300.0;
    let one = |from: usize| {
        let to = best(day, |at| loads[at] + delay(from, at), from)?;
        Some((*lists[from].first()?, to))
    };
    hot(day, &loads).into_iter().filter_map(one).collect()
}

fn greedy(day: &Day) -> Vec<Move> {
    let (mut loads, lists) = (day.loads(), day.by_node());
    let mut moves = Vec::new();
    for from in hot(day, &loads) {
        for index in &lists[from] {
            if loads[from] < OVERLOADED {
                break;
            }
            let Some(to) = best(day, |at| loads[at], from) else { break };
            shift(day, &mut loads, *index, from, to);
            moves.push((*index, to));
        }
    }
    moves
}

fn shift(day: &Day, loads: &mut [f64], index: usize, from: usize, to: usize) {
    let cpus = day.snapshot.workloads[index].cpus;
    loads[from] -= cpus / day.snapshot.nodes[from].cpus;
    loads[to] += cpus / day.snapshot.nodes[to].cpus;
}

fn low_node_utilization(day: &Day, limit: usize) -> Vec<Move> {
    const UNDER: f64 = 0.20;
    const OVER: f64 = 0.50;
    let (mut loads, lists) = (day.loads(), day.by_node());
    let mut under: Vec<usize> = (0..loads.len()).filter(|at| day.is_up(*at) && loads[*at] < UNDER).collect();
    let mut over: Vec<usize> = (0..loads.len()).filter(|at| day.is_up(*at) && loads[*at] > OVER).collect();
    over.sort_by(|a, b| loads[*b].total_cmp(&loads[*a]).then(a.cmp(b)));
    let mut moves = Vec::new();
    for from in over {
        // It evicts the least important first; all are alike here, so the smallest.
        for index in lists[from].iter().rev() {
            under.retain(|at| loads[*at] < OVER);
            if loads[from] <= OVER || under.is_empty() || moves.len() >= limit {
                break;
            }
            let least = under.iter().copied().min_by(|a, b| loads[*a].total_cmp(&loads[*b]).then(a.cmp(b)));
            let Some(to) = least else { break };
            shift(day, &mut loads, *index, from, to);
            moves.push((*index, to));
        }
    }
    moves
}

fn drs(day: &Day, limit: usize) -> Vec<Move> {
    const TARGET: f64 = 0.10;
    const ENDS: usize = 5;
    // What a move must win at least, as a share of the deviation.
    const WORTH: f64 = 0.002;
    let (mut loads, mut lists) = (day.loads(), day.by_node());
    let mut up: Vec<usize> = (0..loads.len()).filter(|at| day.is_up(*at)).collect();
    let mut moves = Vec::new();
    while moves.len() < limit && up.len() > 1 {
        let count = up.len() as f64;
        let mean = up.iter().map(|at| loads[*at]).sum::<f64>() / count;
        let squares = up.iter().map(|at| (loads[*at] - mean).powi(2)).sum::<f64>();
        if (squares / count).sqrt() <= TARGET {
            break;
        }
        up.sort_by(|a, b| loads[*a].total_cmp(&loads[*b]).then(a.cmp(b)));
        let mut found: Option<(f64, usize, usize, usize)> = None;
        for from in up.iter().rev().take(ENDS) {
            for (index, to) in lists[*from].iter().flat_map(|index| up.iter().take(ENDS).map(move |to| (index, to))) {
                let mut after = [loads[*from], loads[*to]];
                after[0] -= day.snapshot.workloads[*index].cpus / day.snapshot.nodes[*from].cpus;
                after[1] += day.snapshot.workloads[*index].cpus / day.snapshot.nodes[*to].cpus;
                let before = (loads[*from] - mean).powi(2) + (loads[*to] - mean).powi(2);
                let gain = before - after.iter().map(|load| (load - mean).powi(2)).sum::<f64>();
                if from != to && gain > WORTH * squares.max(1.0) && found.is_none_or(|(best, ..)| gain > best) {
                    found = Some((gain, *index, *from, *to));
                }
            }
        }
        let Some((_, index, from, to)) = found else { break };
        shift(day, &mut loads, index, from, to);
        lists[from].retain(|other| *other != index);
        moves.push((index, to));
    }
    moves
}
