//! Overloaded nodes, relieved one workload at a time.

use std::cmp::Reverse;

use jiff::Timestamp;

use super::rank::Ranking;
use super::unit::{Place, Task, Unit, told, units};
use super::{
    Action, Candidate, Choice, Migrate, NotMoved, Plan, Resize, Trigger, balance, drain, follow, pack, resize, reunite,
};
use crate::availability::{Availability, seconds};
use crate::explain::{first_few, join, percent};
use crate::feasibility::{Context, Reason, ReasonCode, source_unknown};
use crate::model::{Snapshot, Workload};
use crate::overload::{Metric, Overload};
use crate::policy::{Mode, Policy};
use crate::projection::{Passing, Projection};
use crate::strategy::Strategy;

/// A workload that uses less than this of its node hardly relieves it.
pub(crate) const HARDLY: f64 = 0.05;

/// How far above `pack.below` a node may rise while it is emptied.
const PACK_SLACK: f64 = 1.5;

/// Workloads that stay for which every node is explained: a full cluster has more than anyone reads.
pub(super) const EXPLAINED: usize = 16;

/// A cluster of at most so many nodes, with so many workloads on the nodes in need, is relieved in several ways, of which
/// the best is taken.
const SMALL: (usize, usize) = (128, 1024);

/// Plans what to do. The same arguments give the same plan, whatever the order of the snapshot's lists.
///
/// The snapshot and the policy should have passed their `check`; if they haven't, the plan is useless but nothing panics.
pub fn plan(snapshot: &Snapshot, policy: &Policy, now: Timestamp) -> Plan {
    let mut plan = Plan { at: now, actions: Vec::new(), not_moved: Vec::new() };
    let mut projection = Projection::new(snapshot, policy, now);
    let strategy = policy.strategy;
    resize::run(snapshot, policy, &mut projection, &mut plan);
    reunite::run(snapshot, policy, now, strategy, &mut projection, &mut plan);
    let active = |at: &usize| {
        // A node that is being emptied needs no other reason.
        projection.node(*at).availability == Availability::Active && projection.draining(*at).is_none()
    };
    let mut hot: Vec<(usize, Vec<Overload>)> = (0..projection.len())
        .filter(active)
        .map(|at| (at, projection.overloads(at).to_vec()))
        .filter(|(_, overloads)| !overloads.is_empty())
        .collect();
    let draining: Vec<usize> = (0..projection.len()).filter(|at| projection.draining(*at).is_some()).collect();
    if !hot.is_empty() || !draining.is_empty() {
        hot.sort_by(|a, b| {
            let severity = |overloads: &[Overload]| overloads.first().map_or(0.0, Overload::severity);
            severity(&b.1).total_cmp(&severity(&a.1)).then(a.0.cmp(&b.0))
        });
        let in_need = hot.iter().map(|(at, _)| *at).chain(draining.iter().copied());
        let mut workloads = workloads_of(snapshot, &projection, in_need);
        hot.retain(|(at, overloads)| {
            let passing = projection.passing(*at, policy);
            if let Some(passing) = passing {
                outwait(&projection, *at, overloads, passing, &workloads[*at], policy, &mut plan);
                workloads[*at].clear();
            }
            passing.is_none()
        });
        let ranking = Ranking::new(&Context { projection: &projection, policy, now });
        let need =
            Need { policy, now, strategy, ranking: &ranking, hot: &hot, draining: &draining, workloads: &workloads };
        need.meet(&mut projection, &mut plan);
    }
    balance::run(snapshot, policy, now, strategy, &mut projection, &mut plan);
    pack::run(snapshot, policy, now, strategy, &mut projection, &mut plan);
    follow::run(snapshot, policy, now, strategy, &mut projection, &mut plan);
    plan.not_moved.sort_by(|a, b| (&a.node, &a.workload).cmp(&(&b.node, &b.workload)));
    reunite::say_once(&mut plan);
    plan
}

/// What may pass by itself is given time.
fn outwait(
    projection: &Projection<'_>,
    at: usize,
    overloads: &[Overload],
    passing: Passing,
    workloads: &[&Workload],
    policy: &Policy,
    plan: &mut Plan,
) {
    let name = &projection.node(at).name;
    let Some(hot) = overloads.first() else { return };
    let why = match passing {
        Passing::Burst { without } => format!("because of a burst, without it {}", percent(without)),
        Passing::Slight => "hardly over it".to_owned(),
        Passing::Ending { last } => format!("but in the last sample only {}", percent(last)),
    };
    let detail = match passing {
        Passing::Ending { .. } => format!("{name} is at {}, {why}; it may be over already", hot.describe()),
        _ => format!("{name} is at {}, {why}; that gets {:.0} s to pass", hot.describe(), policy.burst.wait_s),
    };
    let burst = || vec![Reason::new(ReasonCode::Burst, detail.clone())];
    plan.not_moved.extend(workloads.iter().map(|workload| stays(workload, burst())));
}

/// One way to relieve several nodes: each is greedy, and which greed is best depends on the cluster.
#[derive(Debug, Clone, Copy)]
struct Way {
    /// Whether the worst node is relieved first, or the one that is nearest to being done.
    worst_first: bool,
    pick: Pick,
    place: Place,
}

/// What leaves a node first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pick {
    /// The largest: its node stays relieved for longest, and one move is enough.
    Lasting,
    /// The smallest that is enough by itself, else the largest.
    Enough,
}

/// The nodes that need something, and what is on them.
struct Need<'p, 'a> {
    policy: &'p Policy,
    now: Timestamp,
    strategy: Strategy,
    ranking: &'p Ranking,
    /// The worst first.
    hot: &'p [(usize, Vec<Overload>)],
    draining: &'p [usize],
    workloads: &'p [Vec<&'a Workload>],
}

impl<'a> Need<'_, 'a> {
    /// Takes the best of several ways: the one that leaves least overload, then with the fewest moves, then with the least to
    /// ship; of equals the first.
    fn meet(&self, projection: &mut Projection<'a>, plan: &mut Plan) {
        let usual = Way { worst_first: true, pick: Pick::Lasting, place: Place::Best };
        let movable: usize = self.hot.iter().map(|(at, _)| self.workloads[*at].len()).sum();
        if projection.len() > SMALL.0 || movable > SMALL.1 || self.hot.is_empty() {
            return self.go(usual, projection, plan);
        }
        let before = (projection.clone(), plan.clone());
        self.go(usual, projection, plan);
        let mut best = self.rest(projection, plan);
        // One move for each node is as good as it gets.
        if best.0 == 0 && best.1 <= self.hot.len() {
            return;
        }
        for number in 1..8 {
            let way = Way {
                worst_first: number & 1 == 0,
                pick: if number & 2 == 0 { Pick::Lasting } else { Pick::Enough },
                place: if number & 4 == 0 { Place::Best } else { Place::Tight },
            };
            let (mut other, mut others) = before.clone();
            self.go(way, &mut other, &mut others);
            let rest = self.rest(&other, &others);
            if rest < best {
                (best, *projection, *plan) = (rest, other, others);
            }
        }
    }

    /// What a way leaves to be wished for: overload above `done` in thousandths of cores, moves, bytes.
    fn rest(&self, projection: &Projection<'a>, plan: &Plan) -> (u64, usize, u64) {
        let mut above = 0.0;
        for (at, overloads) in self.hot {
            let load = projection.load(*at);
            for hot in overloads {
                let (load, size) = match hot.metric {
                    Metric::Cpu => (load.cpu, projection.node(*at).cpus),
                    Metric::Memory => (load.memory, projection.node(*at).memory_bytes as f64 / 1e9),
                    Metric::Pressure | Metric::TemperatureC => (None, 0.0),
                };
                above += load.map_or(0.0, |load| (load - hot.threshold.done).max(0.0)) * size;
            }
        }
        let bytes = |action: &Action| match action {
            Action::Migrate(migrate) => migrate.expected.bytes,
            Action::Resize(_) => 0,
        };
        let moves = plan.actions.iter().filter(|action| matches!(action, Action::Migrate(_))).count();
        ((above * 1000.0).round() as u64, moves, plan.actions.iter().map(bytes).fold(0, u64::saturating_add))
    }

    fn go(&self, way: Way, projection: &mut Projection<'a>, plan: &mut Plan) {
        let Self { policy, now, strategy, ranking, .. } = *self;
        let mut hot: Vec<&(usize, Vec<Overload>)> = self.hot.iter().collect();
        if !way.worst_first {
            hot.reverse();
        }
        for (source, overloads) in hot {
            let task = Task { policy, now, source: *source, strategy, ranking, trigger: Trigger::Overload };
            Relief { task, overloads, way }.run(self.workloads[*source].clone(), projection, plan);
        }
        for source in self.draining {
            let task = Task { policy, now, source: *source, strategy, ranking, trigger: Trigger::Drain };
            drain::run(&task, self.workloads[*source].clone(), projection, plan);
        }
    }
}

/// The workloads of each of these nodes, by the node's place.
fn workloads_of<'a>(
    snapshot: &'a Snapshot,
    projection: &Projection<'_>,
    nodes: impl Iterator<Item = usize>,
) -> Vec<Vec<&'a Workload>> {
    let mut wanted = vec![false; projection.len()];
    for at in nodes {
        wanted[at] = true;
    }
    let mut workloads = vec![Vec::new(); projection.len()];
    for workload in &snapshot.workloads {
        if let Some(at) = projection.find(workload.node.as_str()).filter(|at| wanted[*at]) {
            workloads[at].push(workload);
        }
    }
    workloads
}

/// Whether an action still holds, to be asked with a fresh snapshot inside the transaction that starts it: the workload is
/// still there, the destination still feasible, the source still in need. Every reason against it, at once.
pub fn recheck(action: &Action, snapshot: &Snapshot, policy: &Policy, now: Timestamp) -> Result<(), Vec<Reason>> {
    let migrate = match action {
        Action::Migrate(migrate) => migrate,
        Action::Resize(resize) => return recheck_resize(resize, snapshot, policy),
    };
    let Migrate { workload: name, from, to, trigger, .. } = migrate;
    let Some(workload) = snapshot.workload(name.as_str()) else {
        return Err(vec![Reason::new(ReasonCode::WorkloadMoved, format!("{name} no longer exists"))]);
    };
    if workload.node != *from {
        let detail = format!("{name} is no longer on {from}, it is on {}", workload.node);
        return Err(vec![Reason::new(ReasonCode::WorkloadMoved, detail)]);
    }
    let projection = Projection::new(snapshot, policy, now);
    let Some(source) = projection.find(from.as_str()) else {
        return Err(vec![source_unknown(workload)]);
    };
    let Some(destination) = projection.find(to.as_str()) else {
        return Err(vec![Reason::new(ReasonCode::NodeUnknown, format!("{to} no longer exists"))]);
    };
    let context = Context { projection: &projection, policy, now };
    let mut reasons = context.against_leaving(workload, source);
    let mut pressing = Vec::new();
    if *trigger == Trigger::Overload {
        // Below `start` is not enough to give up: that is what hysteresis is for.
        pressing.extend(Metric::ALL.into_iter().filter(|metric| {
            metric.measure(projection.node(source), policy).is_some_and(|value| value >= metric.threshold(policy).done)
        }));
        if pressing.is_empty() {
            reasons.push(Reason::new(ReasonCode::Relieved, format!("{from} is no longer overloaded")));
        }
    }
    if *trigger == Trigger::Balance {
        pressing.push(Metric::Cpu);
        // Half of what makes it begin is not enough to give up.
        let above = balance::above_mean(&projection, source);
        if policy.mode != Mode::Balance || above.is_none_or(|above| above < policy.balance.spread / 2.0) {
            let detail = format!("{from} is no longer much busier than the rest");
            reasons.push(Reason::new(ReasonCode::Relieved, detail));
        }
    }
    let delay = |at| follow::delay_ms(&projection, workload, at).unwrap_or(f64::INFINITY);
    let idle = |cpu: f64| cpu < PACK_SLACK * policy.pack.below;
    let gone = match trigger {
        Trigger::Pack if policy.mode != Mode::Pack || !projection.load(source).cpu.is_some_and(idle) => {
            Some(format!("{from} is no longer to be emptied"))
        }
        Trigger::Reunite if !reunite::is_still_split(snapshot, workload, to.as_str()) => {
            Some(format!("nothing of the group of {name} is on {to} any more"))
        }
        Trigger::Follow if policy.mode != Mode::Follow || delay(destination) >= delay(source) => {
            Some(format!("the clients of {name} are no longer nearer to {to}"))
        }
        _ => None,
    };
    reasons.extend(gone.map(|detail| Reason::new(ReasonCode::Relieved, detail)));
    if *trigger == Trigger::Drain {
        // Who empties a node doesn't wait for a cooldown.
        reasons.retain(|reason| reason.code != ReasonCode::Cooldown);
        if projection.draining(source).is_none() {
            reasons.push(Reason::new(ReasonCode::Relieved, format!("{from} is no longer being drained")));
        }
    }
    reasons.extend(context.against_destination(workload, source, destination, &pressing));
    if *trigger == Trigger::Reunite {
        reasons.retain(|reason| !matches!(reason.code, ReasonCode::Cooldown | ReasonCode::Return));
    }
    if *trigger == Trigger::Manual {
        reasons.retain(|reason| reason.code.is_hard());
    }
    if reasons.is_empty() { Ok(()) } else { Err(reasons) }
}

fn recheck_resize(resize: &Resize, snapshot: &Snapshot, policy: &Policy) -> Result<(), Vec<Reason>> {
    let name = &resize.workload;
    let why = match snapshot.workload(name.as_str()) {
        None => format!("{name} no longer exists"),
        Some(workload) if workload.node != resize.node => format!("{name} is no longer on {}", resize.node),
        Some(workload) if workload.limits != resize.from => format!("{name} has other limits meanwhile"),
        Some(workload) if !resize::still_wanted(resize, workload, policy) => {
            return Err(vec![Reason::new(ReasonCode::Relieved, format!("{name} no longer needs other limits"))]);
        }
        Some(_) => return Ok(()),
    };
    Err(vec![Reason::new(ReasonCode::WorkloadMoved, why)])
}

/// One overloaded node.
struct Relief<'p> {
    task: Task<'p>,
    overloads: &'p [Overload],
    way: Way,
}

impl Relief<'_> {
    fn run<'a>(&self, workloads: Vec<&'a Workload>, projection: &mut Projection<'a>, plan: &mut Plan) {
        let Task { policy, now, source, .. } = self.task;
        let context = Context { projection, policy, now };
        let against = |workload: &'a Workload| {
            let mut reasons = context.against_leaving(workload, source);
            // How many may move is asked again before each one.
            reasons.retain(|reason| reason.code != ReasonCode::Concurrency);
            reasons
        };
        let mut units = units(workloads, against, told(plan));
        loop {
            let context = Context { projection, policy, now };
            let pressing = self.overloads.iter().find(|hot| self.need(hot, projection) > 0.0);
            let enough = match pressing {
                None => Some(self.relieved(projection)),
                Some(_) => context.against_more_moves(source),
            };
            let (Some(hot), None) = (pressing, &enough) else {
                let rest = units.iter().flat_map(|unit| &unit.members);
                plan.not_moved.extend(rest.map(|workload| stays(workload, enough.clone().into_iter().collect())));
                return;
            };
            let Some(unit) = self.next(&mut units, hot, projection) else { return };
            if let Some(why) = self.in_vain(&unit, &units, hot, projection) {
                unit.members.iter().for_each(|workload| told(plan)(workload, vec![why.clone()]));
                continue;
            }
            match unit.destination(&context, &self.task, &[hot.metric], self.way.place) {
                Some(to) => {
                    let why = hot.sentence(projection.node(source), policy);
                    unit.go(&self.task, to, Some(hot), &why, projection, plan);
                }
                None => no_destination(&unit, &context, &self.task, &[hot.metric], plan),
            }
        }
    }

    /// Where nothing that can still leave is enough, one small workload that runs better elsewhere may go, and then no other
    /// hardly relieves the node either.
    fn in_vain(
        &self,
        unit: &Unit<'_>,
        rest: &[Unit<'_>],
        hot: &Overload,
        projection: &Projection<'_>,
    ) -> Option<Reason> {
        let Task { policy, now, source, .. } = self.task;
        let part = |unit: &Unit<'_>| {
            let share = unit.share(projection, source);
            match hot.metric {
                Metric::Memory => share.memory,
                _ => share.cpu,
            }
        };
        let load = match hot.metric {
            Metric::Cpu => projection.load(source).cpu?,
            Metric::Memory => projection.load(source).memory?,
            Metric::Pressure | Metric::TemperatureC => return None,
        };
        let own = part(unit);
        let left = load - own - rest.iter().map(part).sum::<f64>();
        let lately = seconds(policy.cooldown.moved_s);
        let gave = projection.last_left(source).is_some_and(|left| now.duration_since(left) < lately);
        (gave && own < HARDLY && left >= hot.threshold.start).then(|| {
            let (name, node) = (&unit.first().name, &projection.node(source).name);
            let detail = format!(
                "{name} uses {} of {node}, which stays overloaded even if all leaves that can: moving it hardly helps",
                percent(own),
            );
            Reason::new(ReasonCode::LittleGain, detail)
        })
    }

    /// How much must still leave for the node to be done, in shares of its capacity; 0 if nothing must. Pressure and
    /// temperature can't be projected: for them one workload leaves, whatever its size, and then they get time to fall.
    fn need(&self, hot: &Overload, projection: &Projection<'_>) -> f64 {
        let load = projection.load(self.task.source);
        match hot.metric {
            // Just above 0 when it is exactly at `done`, which is not below it.
            Metric::Cpu => load.cpu.map_or(0.0, |cpu| cpu - hot.threshold.done + f64::EPSILON).max(0.0),
            Metric::Memory => load.memory.map_or(0.0, |memory| memory - hot.threshold.done + f64::EPSILON).max(0.0),
            Metric::Pressure | Metric::TemperatureC => {
                let settle = seconds(self.task.policy.cooldown.settle_s);
                let settling = projection
                    .last_left(self.task.source)
                    .is_some_and(|left| self.task.now.duration_since(left) < settle);
                if settling { 0.0 } else { f64::INFINITY }
            }
        }
    }

    /// Takes out what relieves best: what needs nobody's approval before what does; the lowest priority; for CPU
    /// the largest, for the rest the smallest that is enough by itself, else the largest; the one with less memory to ship; the first by name.
    fn next<'a>(&self, units: &mut Vec<Unit<'a>>, hot: &Overload, projection: &Projection<'_>) -> Option<Unit<'a>> {
        let need = self.need(hot, projection);
        let rank = |unit: &Unit<'a>| {
            let share = unit.share(projection, self.task.source);
            let share = match hot.metric {
                Metric::Cpu | Metric::TemperatureC => share.cpu,
                Metric::Memory | Metric::Pressure => share.memory,
            };
            let calm = match (self.way.pick, hot.metric) {
                (Pick::Lasting, Metric::Cpu) => true,
                _ => share < need,
            };
            // Shares are finite and not negative, so their bits sort as they do.
            let size = if calm { u64::MAX - share.to_bits() } else { share.to_bits() };
            let first = calm == (self.way.pick == Pick::Lasting && hot.metric == Metric::Cpu);
            let approval = |workload: &&Workload| Reverse(self.task.policy.autonomy.for_workload(workload.migrate));
            let bytes = unit.members.iter().map(|workload| workload.memory_bytes).fold(0, u64::saturating_add);
            let priority = unit.members.iter().map(|workload| workload.priority).max();
            (unit.members.iter().map(approval).max(), priority, Reverse(first), size, bytes)
        };
        let best = (0..units.len()).min_by_key(|index| rank(&units[*index]))?;
        Some(units.remove(best))
    }

    fn relieved(&self, projection: &Projection<'_>) -> Reason {
        let name = &projection.node(self.task.source).name;
        let load = projection.load(self.task.source);
        let slow = self.overloads.iter().find(|hot| matches!(hot.metric, Metric::Pressure | Metric::TemperatureC));
        if let Some(hot) = slow {
            let detail =
                format!("{name} is at {}; a workload has just left, and that needs time to show", hot.describe());
            return Reason::new(ReasonCode::Settling, detail);
        }
        let parts: Vec<String> = self
            .overloads
            .iter()
            .filter_map(|hot| match hot.metric {
                Metric::Cpu => Some(format!("{} CPU", percent(load.cpu?))),
                Metric::Memory => Some(format!("{} memory", percent(load.memory?))),
                Metric::Pressure | Metric::TemperatureC => None,
            })
            .collect();
        let detail = format!("{name} will be at {} once the moves planned and under way are done", parts.join(" and "));
        Reason::new(ReasonCode::Relieved, detail)
    }
}

pub(super) fn stays(workload: &Workload, reasons: Vec<Reason>) -> NotMoved {
    let (workload, node) = (workload.name.clone(), workload.node.clone());
    let empty =
        NotMoved { workload, node, reason: String::new(), reasons: Vec::new(), candidates: Vec::new(), omitted: 0 };
    because(empty, reasons)
}

pub(super) fn because(stays: NotMoved, reasons: Vec<Reason>) -> NotMoved {
    let reason = format!("{} stays on {}: {}.", stays.workload, stays.node, join(&reasons));
    NotMoved { reason, reasons, ..stays }
}

/// Nothing can take it: said of every member.
pub(super) fn no_destination(
    unit: &Unit<'_>,
    context: &Context<'_, '_>,
    task: &Task<'_>,
    pressing: &[Metric],
    plan: &mut Plan,
) {
    for workload in &unit.members {
        let choice = Choice { context, workload, source: task.source, trigger: task.trigger };
        let mut stays = stays(workload, Vec::new());
        let explained = plan.not_moved.iter().filter(|stays| !stays.candidates.is_empty()).count();
        let detail = if explained < EXPLAINED {
            let assessed = choice.assess_some(pressing, task.ranking, None, plan.actions.len()).0;
            stays.candidates = choice.candidates(&assessed, None);
            nowhere(workload, &stays.candidates)
        } else {
            format!("none of the {} other nodes can take {}", context.projection.len() - 1, workload.name)
        };
        stays.omitted = choice.omitted(&stays.candidates);
        let group = workload.group.as_ref().filter(|_| unit.members.len() > 1);
        let code = if group.is_some() { ReasonCode::Grouped } else { ReasonCode::NoDestination };
        let detail = match group {
            Some(group) => format!("no node can take the whole group {group}, which moves as one"),
            None => detail,
        };
        plan.not_moved.push(because(stays, vec![Reason::new(code, detail)]));
    }
}

pub(super) fn nowhere(workload: &Workload, candidates: &[Candidate]) -> String {
    if candidates.is_empty() {
        return "there is no other node".to_owned();
    }
    format!("no node can take {}: {}", workload.name, first_few(candidates))
}
