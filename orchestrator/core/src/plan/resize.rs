//! Limits first: a container that runs into its own limit while its node has room needs no other node, only more of this
//! one. Once it is idle again it gets back the limit that it was created with.

use super::{Action, Plan, Resize};
use crate::availability::Availability;
use crate::explain::percent;
use crate::model::{Limits, MigrateMode, Snapshot, Workload, WorkloadState};
use crate::policy::Policy;
use crate::projection::{Projection, Share};

/// An enlargement by less than this factor isn't worth the trouble.
const LEAST: f64 = 1.1;

/// Plans what `docker update` can do. What is given away here is no room for a workload that moves.
pub(super) fn run(snapshot: &Snapshot, policy: &Policy, projection: &mut Projection<'_>, plan: &mut Plan) {
    if !policy.resize.enabled {
        return;
    }
    let limited = |workload: &&Workload| workload.limits.cpus.is_some() || workload.limits.memory_bytes.is_some();
    let mut workloads: Vec<&Workload> = snapshot.workloads.iter().filter(limited).collect();
    workloads.sort_by(|a, b| a.name.cmp(&b.name));
    for workload in workloads {
        let Some(at) = projection.find(workload.node.as_str()) else { continue };
        let free = workload.state == WorkloadState::Running && projection.flying_to(workload).is_none();
        // What leaves its node anyway is not resized on the way.
        let calm = projection.overloads(at).is_empty() && projection.draining(at).is_none();
        if !free || !calm || projection.node(at).availability != Availability::Active {
            continue;
        }
        let (mut to, mut reasons) = (workload.limits, Vec::new());
        let cpu = cpu(workload, at, policy, projection);
        let memory = memory(workload, at, policy, projection);
        if let Some((cores, why)) = cpu {
            to.cpus = Some(cores);
            reasons.push(why);
        }
        if let Some((bytes, why)) = memory {
            to.memory_bytes = Some(bytes);
            reasons.push(why);
        }
        if reasons.is_empty() {
            continue;
        }
        projection.reserve(at, more(workload.limits, to, at, projection));
        let mode = match workload.migrate {
            // It is pinned to its node, not to its limits.
            MigrateMode::Never => MigrateMode::Auto,
            mode => mode,
        };
        plan.actions.push(Action::Resize(Resize {
            workload: workload.name.clone(),
            node: workload.node.clone(),
            from: workload.limits,
            to,
            autonomy: policy.autonomy.for_workload(mode),
            reason: reasons.join(" "),
        }));
    }
}

/// Whether a workload still wants what was planned for it: one that is to grow until it is idle, one that is to shrink until
/// it would run into the smaller limit.
pub(super) fn still_wanted(resize: &Resize, workload: &Workload, policy: &Policy) -> bool {
    let wanted = |used: f64, from: Option<f64>, to: Option<f64>| match (from, to) {
        (Some(from), Some(to)) if to > from => used >= policy.resize.idle * from,
        (Some(from), Some(to)) if to < from => used < policy.resize.at * to,
        _ => false,
    };
    let bytes = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64);
    let (from, to) = (resize.from, resize.to);
    wanted(workload.cpus, from.cpus, to.cpus)
        || wanted(workload.memory_bytes as f64, bytes(from.memory_bytes), bytes(to.memory_bytes))
}

/// What the node gives away, as fractions of its capacity; nothing if a limit is lowered.
fn more(from: Limits, to: Limits, at: usize, projection: &Projection<'_>) -> Share {
    let node = projection.node(at);
    let cpus = to.cpus.unwrap_or(0.0) - from.cpus.unwrap_or(0.0);
    let bytes = to.memory_bytes.unwrap_or(0).saturating_sub(from.memory_bytes.unwrap_or(0));
    Share { cpu: (cpus / node.cpus).max(0.0), memory: bytes as f64 / node.memory_bytes.max(1) as f64, disk: 0.0 }
}

/// The new limit in cores, and why.
fn cpu(workload: &Workload, at: usize, policy: &Policy, projection: &Projection<'_>) -> Option<(f64, String)> {
    let (name, node) = (&workload.name, projection.node(at));
    let limit = workload.limits.cpus.filter(|limit| limit.is_finite() && *limit > 0.0)?;
    if let Some(base) = workload.created_with.cpus.filter(|base| *base < limit)
        && workload.cpus < policy.resize.idle * base
    {
        let why = format!("{name} uses {:.2} of its {limit:.2} cores: it goes back to {base:.2}.", workload.cpus);
        return Some((base, why));
    }
    if workload.cpus < policy.resize.at * limit {
        return None;
    }
    let load = projection.load(at).cpu?;
    let room = (1.0 - policy.headroom.cpu - load) * node.cpus;
    let most = workload.created_with.cpus.unwrap_or(limit) * policy.resize.most;
    let wanted = (limit * policy.resize.step).min(limit + room).min(most).min(node.cpus);
    // Docker takes hundredths.
    let wanted = (wanted * 100.0 + 1e-6).floor() / 100.0;
    let why = || {
        let used = percent(workload.cpus / limit);
        let busy = percent(load);
        format!("{name} uses {used} of its {limit:.2} cores and {} is {busy} busy: it gets {wanted:.2}.", node.name)
    };
    (wanted >= limit * LEAST).then(|| (wanted, why()))
}

/// The new limit in bytes, and why.
fn memory(workload: &Workload, at: usize, policy: &Policy, projection: &Projection<'_>) -> Option<(u64, String)> {
    const MIB: f64 = 1_048_576.0;
    let (name, node) = (&workload.name, projection.node(at));
    let limit = workload.limits.memory_bytes.filter(|limit| *limit > 0)?;
    let used = workload.memory_bytes as f64;
    if let Some(base) = workload.created_with.memory_bytes.filter(|base| *base < limit)
        && used < policy.resize.idle * base as f64
    {
        let (has, back) = (limit as f64 / MIB, base as f64 / MIB);
        let why = format!("{name} uses {:.0} of its {has:.0} MiB: it goes back to {back:.0} MiB.", used / MIB);
        return Some((base, why));
    }
    let (limit, has) = (limit as f64, limit);
    if used < policy.resize.at * limit {
        return None;
    }
    let load = projection.load(at).memory?;
    let room = (1.0 - policy.headroom.memory - load) * node.memory_bytes as f64;
    let most = workload.created_with.memory_bytes.unwrap_or(has) as f64 * policy.resize.most;
    let wanted = (limit * policy.resize.step).min(limit + room).min(most);
    let why = || {
        let (share, busy) = (percent(used / limit), percent(load));
        format!(
            "{name} uses {share} of its {:.0} MiB and {} has {busy} of its memory in use: it gets {:.0} MiB.",
            limit / MIB,
            node.name,
            wanted / MIB
        )
    };
    (wanted >= limit * LEAST).then(|| (wanted as u64, why()))
}
