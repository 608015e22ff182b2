//! What must hold after every event.
//!
//! | promise | how it is seen |
//! |---|---|
//! | at most one copy of a workload runs | containers of all nodes |
//! | a copy that could run is somewhere | the same; not asked of what a user removed, a reboot ended or post-copy declared lost |
//! | who runs is who owns | containers against the orchestrator's ownership rows, while it is there |
//! | epochs only grow | those rows, across restarts |
//! | nothing runs without its memory | pages that nobody brings any more |
//! | nothing thaws under a dump | at the moment of the thaw (`world.rs`) |
//! | `rolled-back` means seen running | the thaw's answer against the container, and every such record against those answers |
//! | what was acknowledged stays | every migration and policy version that a request was answered with, after each restart and hour |
//! | faults over, everything settles | `run.rs`: no migration unfinished, one running copy at its owner, nothing left behind |

use std::collections::BTreeMap;

use crate::cluster::{Inner, State};

/// Checks what can be seen at any moment.
pub fn check(inner: &mut Inner) {
    let owners: Option<BTreeMap<String, (Option<String>, u64)>> = inner.orchestrator.as_ref().map(|app| {
        let fleet = app.fleet();
        let rows = fleet.ownership.iter();
        rows.map(|(workload, row)| (workload.to_string(), (row.owner.as_ref().map(ToString::to_string), row.epoch)))
            .collect()
    });
    let mut broken = Vec::new();
    for workload in &inner.workloads {
        let copies: Vec<(&String, State)> = inner
            .containers
            .iter()
            .filter(|((_, name), _)| name == workload)
            .map(|((node, _), one)| (node, one.state))
            .collect();
        let running: Vec<&String> =
            copies.iter().filter(|(_, state)| *state == State::Running).map(|(node, _)| *node).collect();
        if running.len() > 1 {
            broken.push(format!("{workload} runs {} times, on {running:?}", running.len()));
        }
        let hurt = inner.hurt.contains(workload);
        let there = copies.iter().any(|(_, state)| matches!(state, State::Running | State::Paused | State::Held));
        if !there && !hurt {
            broken.push(format!("{workload} is lost"));
        }
        let owner = owners.as_ref().and_then(|owners| owners.get(workload));
        if let (Some((Some(owner), _)), [running], false) = (owner, running.as_slice(), hurt)
            && owner != *running
        {
            broken.push(format!("{workload} runs on {running} and {owner} owns it"));
        }
    }
    for (workload, (_, epoch)) in owners.into_iter().flatten() {
        let highest = inner.epochs.entry(workload.clone()).or_default();
        if epoch < *highest {
            broken.push(format!("the epoch of {workload} fell from {highest} to {epoch}"));
        }
        *highest = epoch.max(*highest);
    }
    for pages in inner.pages.values().filter(|pages| !pages.whole && !pages.coming) {
        let Some((node, id)) = &pages.to else { continue };
        let runs = |one: &&crate::cluster::Container| one.id == *id && one.state == State::Running && !one.whole;
        if let Some(one) = inner.containers.values().find(runs) {
            broken.push(format!("{} runs on {node} without its memory, and nobody brings it", one.workload));
        }
    }
    broken.into_iter().for_each(|what| inner.violation(what));
}
