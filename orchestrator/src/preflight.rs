//! Preflight: what fog-core knows of both nodes, what the source finds at the container, and what the destination says to
//! its configuration. The agents look with the same functions that a migration's first steps refuse with.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use fog_api::agent::{Examine, Examined, NodeFacts, Specification, ToAgent};
use fog_api::preflight::{Finding, Preflight, Weight};
use fog_core::feasibility::{ReasonCode, feasibility};
use fog_core::place::{Refusal, place};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::app::{App, Service};
use crate::{clock, snapshot};

/// An agent answers within milliseconds; one that does not is as good as away.
const PATIENCE: Duration = Duration::from_secs(5);

/// Questions that agents have not answered yet.
#[derive(Default)]
pub struct Examinations(Mutex<BTreeMap<Uuid, oneshot::Sender<Examined>>>);

impl Examinations {
    fn waiting(&self) -> std::sync::MutexGuard<'_, BTreeMap<Uuid, oneshot::Sender<Examined>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an agent's answer; one that nobody waits for is dropped.
    pub fn answered(&self, examined: Examined) {
        let waiting = self.waiting().remove(&examined.id);
        if let Some(waiting) = waiting {
            let _ = waiting.send(examined);
        }
    }
}

/// Asks the agent of a node.
async fn ask(
    app: &Service,
    node: &str,
    workload: &str,
    specification: Option<Specification>,
) -> Result<Examined, Finding> {
    let id = Uuid::new_v4();
    let bind_mounts = app.policy.get().policy.files.bind_mounts.clone();
    let (sender, answer) = oneshot::channel();
    app.examinations.waiting().insert(id, sender);
    let question = Examine { id, workload: workload.to_owned(), specification, bind_mounts };
    let silent = if app.agents.send(node, ToAgent::Examine(question)) {
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(examined)) => return Ok(examined),
            _ => format!("The agent of {node} did not answer within {} s.", PATIENCE.as_secs()),
        }
    } else {
        format!("The agent of {node} is not connected.")
    };
    app.examinations.waiting().remove(&id);
    Err(Finding::blocker("agent", silent).by(node))
}

/// Everything that stands in the way of moving `workload` to `destination`.
pub async fn preflight(app: &App, workload: &str, destination: &str) -> Result<Preflight, Refusal> {
    let began = Instant::now();
    let (now, policy) = (clock::now(), app.policy.get());
    let snapshot = snapshot::taken(app, now).await;
    let facts: BTreeMap<String, NodeFacts> = {
        let fleet = app.fleet();
        fleet.nodes.iter().map(|(name, view)| (name.clone(), view.stored.facts.clone())).collect()
    };
    // Only a name that nobody knows ends it: everything else is a finding.
    if let Err(refusal) = place(&snapshot, &policy.policy, workload, Some(destination), None, now)
        && matches!(
            refusal,
            Refusal::UnknownWorkload { .. } | Refusal::UnknownNode { .. } | Refusal::AlreadyThere { .. }
        )
    {
        return Err(refusal);
    }
    let (Some(known), Some(to)) = (snapshot.workload(workload), snapshot.node(destination)) else {
        return Err(Refusal::UnknownWorkload { name: workload.to_owned(), nearest: None });
    };
    let source = known.node.to_string();
    let mut findings = Vec::new();

    let at_source = ask(app, &source, workload, None).await;
    let looked = at_source.is_ok();
    let mut connections = None;
    match at_source {
        Ok(examined) => {
            findings.extend(examined.findings.into_iter().map(|finding| finding.by(&source)));
            if let Some(specification) = examined.specification {
                match ask(app, destination, workload, Some(specification)).await {
                    Ok(examined) => {
                        findings.extend(examined.findings.into_iter().map(|finding| finding.by(destination)));
                        connections = examined.connections;
                    }
                    Err(silent) => findings.push(silent),
                }
            }
        }
        Err(silent) => findings.push(silent),
    }
    for reason in feasibility(&snapshot, &policy.policy, known, to, now) {
        // The agent has just said the same in detail.
        if looked && reason.code == ReasonCode::Obstacle {
            continue;
        }
        let check = serde_json::to_value(reason.code).ok().and_then(|code| Some(code.as_str()?.to_owned()));
        let weight = if reason.code.is_hard() { Weight::Blocker } else { Weight::Warning };
        let message = whole_sentence(&reason.detail);
        findings.push(Finding { check: check.unwrap_or_default(), weight, node: None, message });
    }
    if let (Some(from), Some(to)) = (facts.get(&source), facts.get(destination)) {
        findings.extend(versions((&source, from), (destination, to)));
    }
    findings.sort_by_key(|finding| finding.weight);
    let possible = findings.iter().all(|finding| finding.weight != Weight::Blocker);
    Ok(Preflight {
        workload: workload.to_owned(),
        source,
        destination: destination.to_owned(),
        possible,
        findings,
        connections,
        took_ms: began.elapsed().as_secs_f64() * 1e3,
    })
}

fn whole_sentence(text: &str) -> String {
    let mut letters = text.chars();
    // A name keeps its case.
    let first = letters.next().map(|first| first.to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str().trim_end_matches('.'))
}

/// What the versions of both nodes' programs mean.
fn versions((source, from): (&str, &NodeFacts), (destination, to): (&str, &NodeFacts)) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (node, facts) in [(source, from), (destination, to)] {
        if let Some(criu) = facts.criu.as_deref().filter(|criu| numbers(criu) < [3, 18, 0]) {
            let message =
                format!("CRIU {criu} on {node} is known to fail on kernels from 6.3 on; install 3.18 or newer.");
            findings.push(Finding::blocker("criu", message));
        }
        if let Some(runc) = facts.runc.as_deref().filter(|runc| has_hole(numbers(runc))) {
            let message = format!(
                "runc {runc} on {node} has CVE-2026-119101 (a crafted image restores into a host mount). Every image is \
                 authenticated before runc reads it; install 1.3.7, 1.4.4 or newer all the same."
            );
            findings.push(Finding::warning("runc", message));
        }
    }
    let (here, there) = (numbers(&from.kernel), numbers(&to.kernel));
    if there[..2] < here[..2] {
        findings.push(Finding::warning(
            "kernel",
            format!(
                "The kernel of {destination} ({}) is older than that of {source} ({}); what a process uses of the newer \
                 one cannot be restored.",
                to.kernel, from.kernel
            ),
        ));
    }
    let more = to.cpu_features.iter().filter(|feature| !from.cpu_features.contains(feature));
    let more: Vec<&str> = more.map(String::as_str).collect();
    if !from.cpu_features.is_empty() && !more.is_empty() {
        findings.push(Finding::warning(
            "cpu-features",
            format!(
                "The CPU of {destination} has {} that {source} lacks: a process that starts anew there could not come back.",
                more.join(", ")
            ),
        ));
    }
    findings
}

fn has_hole(runc: [u32; 3]) -> bool {
    !(runc >= [1, 4, 4] || ([1, 3, 7]..[1, 4, 0]).contains(&runc))
}

/// The numbers at the beginning of a version.
fn numbers(version: &str) -> [u32; 3] {
    let number = |part: &str| part.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok());
    let mut parts = version.trim_start_matches('v').split('.').map(|part| number(part).unwrap_or(0));
    [(); 3].map(|()| parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(criu: &str, runc: &str, kernel: &str, cpu: &[&str]) -> NodeFacts {
        NodeFacts {
            criu: Some(criu.into()),
            runc: Some(runc.into()),
            kernel: kernel.into(),
            cpu_features: cpu.iter().map(|feature| (*feature).to_owned()).collect(),
            ..NodeFacts::default()
        }
    }

    #[test]
    fn versions_that_are_known_to_be_bad_are_named() {
        let good = facts("4.2.1", "1.3.7", "6.18.44-x", &["avx2"]);
        assert_eq!(versions(("A", &good), ("B", &good)), []);
        let bad = facts("3.17.1", "1.1.15+ds1", "6.1.0-9", &["avx2", "avx512f"]);
        let found = versions(("A", &good), ("B", &bad));
        let shown: Vec<(&str, Weight)> = found.iter().map(|finding| (finding.check.as_str(), finding.weight)).collect();
        let warning = Weight::Warning;
        assert_eq!(
            shown,
            [("criu", Weight::Blocker), ("runc", warning), ("kernel", warning), ("cpu-features", warning)]
        );
        assert!(found[3].message.contains("avx512f") && found[0].message.contains("3.17.1 on B"));
    }

    #[test]
    fn holes_in_runc() {
        for (version, hole) in [("1.3.6", true), ("1.3.7", false), ("1.4.0", true), ("1.4.4", false), ("2.0.0", false)]
        {
            assert_eq!(has_hole(numbers(version)), hole, "{version}");
        }
    }
}
