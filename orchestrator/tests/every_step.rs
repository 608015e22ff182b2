//! Every step of the protocol under every fault, with the real orchestrator process and simulated agents. The steps come
//! from the state machine, so a new one is in here by itself. What came of each is the table in `docs/faults.md`:
//! `UPDATE=1 cargo test -p fog-orchestrator --test every_step` writes it, and without that it must be as it is there.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fog_api::agent::{self, Failure, FailureKind};
use fog_api::migration::Phase;
use fog_core::migration::{Role, Step};
use fog_sim::trouble::Trouble;
use fog_sim::world::World;
use support::Orchestrator;
use tokio::task::JoinSet;

/// So many clusters at once: they mostly wait.
const AT_ONCE: usize = 2;
/// Longer than the orchestrator's patience in these tests.
const ASLEEP: Duration = Duration::from_secs(14);
/// Long enough that nothing stalls because the machine is busy.
const PATIENCE: &str = "stall_timeout_s = 12\n";

/// The columns of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Fault {
    Fails,
    Gone,
    AnswersTwice,
    DiesBefore,
    DiesInside,
    DiesAfter,
    Sleeps,
    OrchestratorDiesBefore,
    OrchestratorDiesAfter,
}

const FAULTS: [(Fault, &str); 9] = [
    (Fault::Fails, "it fails"),
    (Fault::Gone, "container gone"),
    (Fault::AnswersTwice, "answered twice"),
    (Fault::DiesBefore, "agent dies before"),
    (Fault::DiesInside, "agent dies inside"),
    (Fault::DiesAfter, "agent dies after"),
    (Fault::Sleeps, "agent stopped, wakes late"),
    (Fault::OrchestratorDiesBefore, "orchestrator dies before"),
    (Fault::OrchestratorDiesAfter, "orchestrator dies after"),
];

async fn two_nodes(world: &Arc<World>) -> Orchestrator {
    let mut orchestrator = Orchestrator::start_configured(PATIENCE).await;
    world.run("A", "looper");
    orchestrator.node(world, "A", 0.3, &[("B", 2.0)]);
    orchestrator.node(world, "B", 0.2, &[("A", 2.0)]);
    orchestrator.active(2).await;
    orchestrator.workload_on("looper", "A").await;
    orchestrator
}

fn wire(step: Step) -> agent::Step {
    serde_json::from_value(serde_json::to_value(step).unwrap()).unwrap()
}

fn failure(kind: FailureKind) -> Failure {
    Failure { kind, message: "on purpose".into(), log: Vec::new() }
}

/// One cell: what the migration came to when this befell this step, once.
async fn cell(step: Step, fault: Fault) -> Phase {
    let world = Arc::new(World::default());
    let mut orchestrator = two_nodes(&world).await;
    let node = if step.role() == Role::Source { "A" } else { "B" };
    let (now, met) = (wire(step), Arc::new(AtomicBool::new(false)));
    // To come to what undoes, something has to go wrong first.
    let undoes = matches!(step, Step::Thaw | Step::Abandon);
    let (first, kind) = (Arc::clone(&met), fault);
    world.set_fault(Box::new(move |at, step| {
        let fails = match kind {
            Fault::Fails => Some(FailureKind::Runtime),
            Fault::Gone => Some(FailureKind::Gone),
            _ => None,
        };
        if at == node && step == now && fails.is_some() && !first.swap(true, Ordering::SeqCst) {
            return fails.map(failure);
        }
        (undoes && step == agent::Step::Restore).then(|| failure(FailureKind::Runtime))
    }));
    let pid = orchestrator.pid();
    let kill: fog_sim::trouble::Deed = Arc::new(move || {
        let killed = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
        assert!(killed.is_ok_and(|status| status.success()));
    });
    let troubled = Arc::clone(&met);
    world.set_troubles(Box::new(move |at, step| {
        let trouble = match kind {
            Fault::Fails | Fault::Gone => return None,
            Fault::AnswersTwice => Trouble::AnswersTwice,
            Fault::DiesBefore => Trouble::DiesBefore,
            Fault::DiesInside => Trouble::DiesInside,
            Fault::DiesAfter => Trouble::DiesAfter,
            Fault::Sleeps => Trouble::Sleeps(ASLEEP),
            Fault::OrchestratorDiesBefore => Trouble::Before(Arc::clone(&kill)),
            Fault::OrchestratorDiesAfter => Trouble::After(Arc::clone(&kill)),
        };
        (at == node && step == now && !troubled.swap(true, Ordering::SeqCst)).then_some(trouble)
    }));
    let id = orchestrator.migrate("looper", "B").await;
    if matches!(fault, Fault::OrchestratorDiesBefore | Fault::OrchestratorDiesAfter) {
        orchestrator.died().await;
        orchestrator.restart().await;
    }
    let migration = orchestrator.over(&id).await;
    // What cleans up comes after it is over.
    let ordered = || async { met.load(Ordering::SeqCst).then_some(()) };
    orchestrator.until(&format!("{step:?} is ordered"), ordered).await;
    let (home, other) = if migration.phase == Phase::Done { ("B", "A") } else { ("A", "B") };
    let place = format!("{step:?} under {fault:?}: {migration:?}");
    if fault == Fault::Gone {
        // Somebody removed that node's container: nothing may have been started in its place.
        assert!(world.running("looper").iter().all(|node| node == home), "{place}");
    } else {
        let clean = || async { (world.holding("looper") == [home]).then_some(()) };
        orchestrator.until(&format!("{other} holds nothing, {place}"), clean).await;
        assert_eq!(world.running("looper"), [home], "{place}");
    }
    if migration.phase != Phase::Done {
        assert!(migration.cause.is_some(), "{place}");
    }
    assert_eq!(world.violations(), Vec::<String>::new(), "{place}");
    assert_eq!(orchestrator.integrity().await, "ok", "{place}");
    migration.phase
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_step_survives_every_fault() {
    let mut todo: Vec<(Step, Fault)> =
        Step::ALL.into_iter().flat_map(|step| FAULTS.map(|(fault, _)| (step, fault))).collect();
    let mut running = JoinSet::new();
    let mut done = std::collections::HashMap::new();
    while !(todo.is_empty() && running.is_empty()) {
        while let Some((step, fault)) = todo.pop_if(|_| running.len() < AT_ONCE) {
            running.spawn(async move { ((step, fault), cell(step, fault).await) });
        }
        if let Some(cell) = running.join_next().await {
            let (key, phase) = cell.unwrap();
            done.insert(key, phase);
        }
    }
    let head: Vec<&str> = FAULTS.iter().map(|(_, name)| *name).collect();
    let mut table = format!("| step | {} |\n|---|{}\n", head.join(" | "), "---|".repeat(head.len()));
    for step in Step::ALL {
        let cells: Vec<String> = FAULTS.iter().map(|(fault, _)| done[&(step, *fault)].to_string()).collect();
        table.push_str(&format!("| {} | {} |\n", wire(step), cells.join(" | ")));
    }
    eprintln!("{table}");
    let text = format!(
        "# What each fault does to each step\n\n\
         Generated by `orchestrator/tests/every_step.rs` from what happened: the real orchestrator, simulated agents, and \
         in each cell the fault befell that step once. In every cell the container ran exactly once afterwards, on the \
         node that owned it, nothing was left on the other one, and the database was whole. Under `container gone` \
         somebody removed that node's container: nothing was started in its place.\n\n{table}"
    );
    fresh("faults.md", &text);
}

fn fresh(name: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, text).unwrap();
    }
    let there = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(there == text, "docs/{name} is not what happened; run this test with UPDATE=1 and look at the difference");
}

/// The orchestrator dies right before and right after each write of its ledger, one by one, until a migration comes to
/// its end without meeting the fault.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_write_the_orchestrator_loses_nothing_that_it_acknowledged() {
    let mut writes = 0;
    for write in 1.. {
        let mut died = false;
        for moment in ["before", "after"] {
            let at = format!("{moment}:{write}");
            let world = Arc::new(World::default());
            let mut orchestrator = two_nodes(&world).await;
            orchestrator.kill();
            orchestrator.restart_to_die(&at).await;
            orchestrator.active(2).await;
            orchestrator.workload_on("looper", "A").await;
            let mut acknowledged = None;
            // Over, or dead: whatever comes first.
            let begin = std::time::Instant::now();
            let dead = loop {
                if orchestrator.is_dead() {
                    break true;
                }
                if acknowledged.is_none() {
                    acknowledged = orchestrator.try_migrate("looper", "B").await;
                }
                if let Some(id) = &acknowledged
                    && orchestrator.finished(id).await
                {
                    break false;
                }
                assert!(begin.elapsed() < support::DEADLINE, "{at}: neither over nor dead");
                tokio::time::sleep(Duration::from_millis(10)).await;
            };
            died |= dead;
            if dead {
                assert_eq!(orchestrator.integrity().await, "ok", "{at}");
                orchestrator.restart().await;
                orchestrator.active(2).await;
            }
            let id = match acknowledged {
                Some(id) => id,
                // It was never promised; if it was written all the same, it is being carried out.
                None => match orchestrator.newest_migration().await {
                    Some(id) => id,
                    None => {
                        orchestrator.workload_on("looper", "A").await;
                        orchestrator.migrate("looper", "B").await
                    }
                },
            };
            // It may be dying at this very moment, right behind its last write.
            let begin = std::time::Instant::now();
            let migration = loop {
                if orchestrator.is_dead() {
                    died = true;
                    orchestrator.restart().await;
                }
                if let Some(migration) = orchestrator.try_over(&id).await {
                    break migration;
                }
                assert!(begin.elapsed() < support::DEADLINE, "{at}: it does not come to an end");
                tokio::time::sleep(Duration::from_millis(10)).await;
            };
            assert_eq!(migration.phase, Phase::Done, "{at}: {migration:?}");
            let settled = || async { (world.holding("looper") == ["B"]).then_some(()) };
            orchestrator.until("A holds nothing", settled).await;
            assert_eq!(world.running("looper"), ["B"], "{at}");
            assert_eq!(world.violations(), Vec::<String>::new(), "{at}");
            assert_eq!(orchestrator.integrity().await, "ok", "{at}");
            assert_eq!(orchestrator.owner("looper").await, ("B".to_owned(), 2), "{at}");
        }
        if !died {
            break;
        }
        writes = write;
    }
    eprintln!("died before and after each of {writes} writes");
    assert!(writes >= 8, "only {writes} writes were met: is the fail point compiled in?");
}
