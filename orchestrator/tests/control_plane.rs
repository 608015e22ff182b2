//! The control plane, end to end but for the containers: a real orchestrator process, simulated nodes.

mod support;

use std::sync::Arc;

use fog_api::agent::{Failure, FailureKind, Step};
use fog_api::migration::Phase;
use fog_sim::trouble::Trouble;
use fog_sim::world::World;
use support::Orchestrator;

async fn two_nodes(world: &Arc<World>) -> Orchestrator {
    let mut orchestrator = Orchestrator::start().await;
    world.run("A", "looper");
    orchestrator.node(world, "A", 0.3, &[("B", 2.0)]);
    orchestrator.node(world, "B", 0.2, &[("A", 2.0)]);
    orchestrator.active(2).await;
    orchestrator.workload_on("looper", "A").await;
    orchestrator
}

fn fails(at: &'static str, step: Step, kind: FailureKind) -> fog_sim::world::Fault {
    Box::new(move |node, now| {
        (node == at && now == step).then(|| Failure {
            kind,
            message: format!("{step:?} failed on purpose"),
            log: vec!["(00.1) Error (criu/x.c:1): on purpose".into()],
        })
    })
}

#[tokio::test]
async fn an_overloaded_node_is_relieved_without_anybody_asking() {
    let mut orchestrator = Orchestrator::start().await;
    let world = Arc::new(World::default());
    world.run("A", "looper");
    for (name, cpu) in [("A", 0.90), ("B", 0.65), ("C", 0.20), ("D", 0.15)] {
        let others = ["A", "B", "C", "D"].into_iter().filter(|other| *other != name);
        let rtt: Vec<_> = others.map(|other| (other, if name == "D" || other == "D" { 80.0 } else { 2.0 })).collect();
        orchestrator.node(&world, name, cpu, &rtt);
    }
    orchestrator.workload_on("looper", "C").await;
    let migrations = orchestrator.get("/v1/migrations").await;
    let id = migrations["items"][0]["id"].as_str().unwrap();
    let migration = orchestrator.over(id).await;
    assert_eq!((migration.phase, migration.asked_by.as_str()), (Phase::Done, "policy"));
    assert!(migration.downtime_ms.is_some(), "{migration:?}");
    let decision = orchestrator.get(&format!("/v1/decisions/{}", migration.decision)).await;
    let candidates = decision["candidates"].as_array().unwrap();
    assert_eq!(candidates.len(), 3);
    assert_eq!((&candidates[0]["node"], &candidates[0]["verdict"]), (&"C".into(), &"chosen".into()));
    let d = candidates.iter().find(|candidate| candidate["node"] == "D").unwrap();
    assert!(d["reason"].as_str().unwrap().contains("80"), "why D lost: {d}");
    assert_eq!((world.running("looper"), world.holding("looper")), (vec!["C".to_owned()], vec!["C".to_owned()]));
    assert_eq!(world.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_failure_of_any_step_before_the_commit_leaves_the_source_running() {
    for (node, step) in [("A", Step::Inspect), ("B", Step::Reserve), ("A", Step::Ship), ("B", Step::Restore)] {
        let world = Arc::new(World::default());
        let orchestrator = two_nodes(&world).await;
        world.set_fault(fails(node, step, FailureKind::Runtime));
        let migration = orchestrator.over(&orchestrator.migrate("looper", "B").await).await;
        assert_eq!(migration.phase, Phase::RolledBack, "{step:?}");
        let cause = migration.cause.unwrap();
        assert_eq!((cause.step, cause.node.as_deref()), (Some(step), Some(node)));
        assert!(cause.message.contains("on purpose") && !cause.log.is_empty(), "{cause:?}");
        let cleaned = || async { (world.holding("looper") == ["A"]).then_some(()) };
        orchestrator.until("B holds nothing", cleaned).await;
        assert_eq!(world.running("looper"), ["A"]);
        assert_eq!(world.violations(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_step_behind_the_commit_is_repeated_until_it_is_done() {
    let world = Arc::new(World::default());
    let orchestrator = two_nodes(&world).await;
    let tries = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counted = Arc::clone(&tries);
    world.set_fault(Box::new(move |_, step| {
        let failing = step == Step::Resume && counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 2;
        failing.then(|| Failure { kind: FailureKind::Runtime, message: "not yet".into(), log: Vec::new() })
    }));
    let migration = orchestrator.over(&orchestrator.migrate("looper", "B").await).await;
    assert_eq!(migration.phase, Phase::Done);
    assert_eq!(tries.load(std::sync::atomic::Ordering::SeqCst), 3);
    assert_eq!(world.running("looper"), ["B"]);
    assert_eq!(world.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn an_agent_that_never_answers_is_not_waited_for() {
    let world = Arc::new(World::default());
    let mut orchestrator = two_nodes(&world).await;
    // C says hello and then does nothing it is told: its world is another one, in which nothing is ever shipped.
    let elsewhere = Arc::new(World::default());
    orchestrator.node(&elsewhere, "C", 0.1, &[]);
    orchestrator.active(3).await;
    let migration = orchestrator.over(&orchestrator.migrate("looper", "C").await).await;
    assert_eq!(migration.phase, Phase::RolledBack);
    assert!(migration.cause.unwrap().message.contains("Nothing moved for 3 s"));
    assert_eq!(world.running("looper"), ["A"]);
}

#[tokio::test]
async fn a_migration_can_be_cancelled_before_its_commit_and_not_after() {
    let world = Arc::new(World::default());
    let mut orchestrator = two_nodes(&world).await;
    let elsewhere = Arc::new(World::default());
    orchestrator.node(&elsewhere, "C", 0.1, &[]);
    orchestrator.active(3).await;
    let id = orchestrator.migrate("looper", "C").await;
    let (status, body) = orchestrator.post(&format!("/v1/migrations/{id}/cancel"), serde_json::json!({})).await;
    assert_eq!(status, 202, "{body}");
    assert_eq!(orchestrator.over(&id).await.phase, Phase::RolledBack);
    let id = orchestrator.migrate("looper", "B").await;
    assert_eq!(orchestrator.over(&id).await.phase, Phase::Done);
    let (status, body) = orchestrator.post(&format!("/v1/migrations/{id}/cancel"), serde_json::json!({})).await;
    assert_eq!((status, body["type"].as_str()), (409, Some("urn:fogshift:problem:too-late")));
}

#[tokio::test]
async fn killed_at_any_step_the_orchestrator_goes_on_after_its_restart() {
    let steps = [Step::Inspect, Step::Reserve, Step::Ship, Step::Restore, Step::Resume, Step::Discard, Step::Settle];
    for step in steps {
        let world = Arc::new(World::default());
        let mut orchestrator = two_nodes(&world).await;
        let (reached, mut wait) = tokio::sync::mpsc::unbounded_channel();
        let pid = orchestrator.pid();
        world.set_fault(Box::new(move |_, now| {
            if now == step && reached.send(()).is_ok() && std::fs::metadata(format!("/proc/{pid}")).is_ok() {
                // At once, so that the answer meets a dead orchestrator.
                let kill = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
                assert!(kill.is_ok());
            }
            None
        }));
        let id = orchestrator.migrate("looper", "B").await;
        tokio::time::timeout(support::DEADLINE, wait.recv()).await.expect("the step is reached");
        wait.close();
        orchestrator.kill();
        orchestrator.restart().await;
        let migration = orchestrator.over(&id).await;
        assert_eq!(migration.phase, Phase::Done, "killed at {step:?}: {migration:?}");
        let settled = || async { (world.holding("looper") == ["B"]).then_some(()) };
        orchestrator.until("A holds nothing", settled).await;
        assert_eq!(world.running("looper"), ["B"], "killed at {step:?}");
        assert_eq!(world.violations(), Vec::<String>::new(), "killed at {step:?}");
    }
}

#[tokio::test]
async fn a_drained_node_is_emptied_and_takes_nothing_until_it_is_uncordoned() {
    let world = Arc::new(World::default());
    let mut orchestrator = two_nodes(&world).await;
    let (status, node) = orchestrator.post("/v1/nodes/A/drain", serde_json::Value::Null).await;
    assert_eq!((status, &node["draining"], &node["cordoned"]), (202, &true.into(), &true.into()));
    orchestrator.workload_on("looper", "B").await;
    let emptied = || async { (world.holding("looper") == ["B"]).then_some(()) };
    orchestrator.until("A is empty", emptied).await;
    let migrations = orchestrator.get("/v1/migrations").await;
    assert_eq!(orchestrator.over(migrations["items"][0]["id"].as_str().unwrap()).await.phase, Phase::Done);
    // It is remembered across a restart, and refuses what a person asks for too.
    orchestrator.kill();
    orchestrator.restart().await;
    orchestrator.active(2).await;
    orchestrator.workload_on("looper", "B").await;
    let asked = serde_json::json!({"workload": "looper", "destination": "A"});
    let (status, problem) = orchestrator.post("/v1/migrations", asked).await;
    assert_eq!(status, 409, "{problem}");
    let (status, node) = orchestrator.post("/v1/nodes/A/uncordon", serde_json::Value::Null).await;
    assert_eq!((status, &node["draining"], &node["cordoned"]), (200, &false.into(), &false.into()));
    assert_eq!(orchestrator.over(&orchestrator.migrate("looper", "A").await).await.phase, Phase::Done);
    assert_eq!(orchestrator.post("/v1/nodes/Z/drain", serde_json::Value::Null).await.0, 404);
    assert_eq!(world.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_hangup_reloads_the_policy_and_a_bad_file_changes_nothing() {
    let orchestrator = Orchestrator::start().await;
    let hangup =
        || std::process::Command::new("kill").args(["-HUP", &orchestrator.pid().to_string()]).status().unwrap();
    orchestrator.write_policy(&format!("max_downtime_ms = 777\n{}", support::POLICY));
    hangup();
    let reloaded = || async {
        let policy = orchestrator.get("/v1/policy").await;
        (policy["version"] == 2 && policy["policy"]["max_downtime_ms"] == 777).then_some(())
    };
    orchestrator.until("the new policy is in force", reloaded).await;
    orchestrator.write_policy("max_downtime_ms = \"long\"\n");
    hangup();
    let refused = || async { orchestrator.log().contains("the old policy stays in force").then_some(()) };
    orchestrator.until("the bad policy is refused", refused).await;
    assert!(orchestrator.log().contains("policy.toml:1:"), "with its place");
    assert_eq!(orchestrator.get("/v1/policy").await["version"], 2);
}

/// Somebody removed the held copy: after the commit only the source's frozen copy is left, and a person decides.
async fn failed_after_its_commit(world: &Arc<World>) -> (Orchestrator, String) {
    let orchestrator = two_nodes(world).await;
    world.set_fault(Box::new(|_, step| {
        let gone = Failure { kind: FailureKind::Gone, message: "somebody removed it".into(), log: Vec::new() };
        (step == Step::Resume).then_some(gone)
    }));
    let id = orchestrator.migrate("looper", "B").await;
    let migration = orchestrator.over(&id).await;
    assert_eq!(migration.phase, Phase::Failed, "{migration:?}");
    assert!(migration.frozen_at.is_some_and(|at| at >= migration.created_at), "{migration:?}");
    assert_eq!(world.running("looper"), Vec::<String>::new(), "nothing runs without a word");
    (orchestrator, id)
}

#[tokio::test]
async fn a_person_lets_the_source_go_on_after_a_failure_behind_the_commit() {
    let world = Arc::new(World::default());
    let (mut orchestrator, id) = failed_after_its_commit(&world).await;
    let path = format!("/v1/migrations/{id}/resolve");
    let (status, body) = orchestrator.post(&path, serde_json::json!({"keep": "nobody"})).await;
    assert_eq!(status, 400, "{body}");
    let (status, body) =
        orchestrator.post(&format!("{path}?dry_run=true"), serde_json::json!({"keep": "source"})).await;
    assert_eq!((status, &body["phase"], &body["resolution"]), (200, &"failed".into(), &serde_json::Value::Null));
    // The wrong word first: there is nothing at B any more, which leaves the source's copy as it is.
    let (status, body) = orchestrator.post(&path, serde_json::json!({"keep": "destination"})).await;
    assert_eq!((status, &body["resolution"]["keep"]), (202, &"destination".into()), "{body}");
    assert_eq!(orchestrator.over(&id).await.phase, Phase::Failed);
    let (status, body) = orchestrator.post(&path, serde_json::json!({"keep": "source"})).await;
    assert_eq!((status, &body["resolution"]["keep"]), (202, &"source".into()), "{body}");
    // Whatever comes in between: it is written down.
    orchestrator.kill();
    orchestrator.restart().await;
    let migration = orchestrator.over(&id).await;
    assert_eq!(migration.phase, Phase::RolledBack, "{migration:?}");
    assert!(migration.cause.is_some_and(|cause| cause.message.contains("removed")), "why it came to that");
    let clean = || async { (world.holding("looper") == ["A"]).then_some(()) };
    orchestrator.until("B holds nothing", clean).await;
    assert_eq!(world.running("looper"), ["A"]);
    assert_eq!(orchestrator.owner("looper").await, ("A".to_owned(), 3));
    let (status, body) = orchestrator.post(&path, serde_json::json!({"keep": "source"})).await;
    assert_eq!(status, 200, "said twice is said once: {body}");
    let (status, body) = orchestrator.post(&path, serde_json::json!({"keep": "destination"})).await;
    assert_eq!((status, body["type"].as_str()), (409, Some("urn:fogshift:problem:not-resolvable")), "{body}");
    let audit = orchestrator.list("/v1/audit").await;
    assert!(audit.iter().any(|entry| entry["path"] == path && entry["status"] == 202), "{audit:?}");
    world.set_fault(Box::new(|_, _| None));
    orchestrator.workload_on("looper", "A").await;
    let again = orchestrator.over(&orchestrator.migrate("looper", "B").await).await;
    assert_eq!(again.phase, Phase::Done, "{again:?}");
    assert_eq!(orchestrator.owner("looper").await, ("B".to_owned(), 4));
    assert_eq!(world.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_person_keeps_the_destination_and_the_last_copy_goes_last() {
    let world = Arc::new(World::default());
    let orchestrator = two_nodes(&world).await;
    let first = std::sync::atomic::AtomicBool::new(true);
    world.set_fault(Box::new(move |_, step| {
        let lost = Failure { kind: FailureKind::Lost, message: "its memory never came".into(), log: Vec::new() };
        (step == Step::Settle && first.swap(false, std::sync::atomic::Ordering::SeqCst)).then_some(lost)
    }));
    let id = orchestrator.migrate("looper", "B").await;
    assert_eq!(orchestrator.over(&id).await.phase, Phase::Failed);
    let path = format!("/v1/migrations/{id}/resolve");
    let (status, body) = orchestrator.post(&path, serde_json::json!({"keep": "destination"})).await;
    assert_eq!(status, 202, "{body}");
    let migration = orchestrator.over(&id).await;
    assert_eq!(migration.phase, Phase::Done, "{migration:?}");
    let clean = || async { (world.holding("looper") == ["B"]).then_some(()) };
    orchestrator.until("A holds nothing", clean).await;
    assert_eq!(world.running("looper"), ["B"]);
    let orders = world.orders();
    let at = |step| orders.iter().position(|(_, now, epoch)| (*now, *epoch) == (step, 3)).unwrap();
    assert!(at(Step::Settle) < at(Step::Discard), "{orders:?}");
    assert_eq!(world.violations(), Vec::<String>::new());
}

/// The destination is a machine that never comes back; only a person can know that.
#[tokio::test]
async fn a_destination_that_burned_is_not_waited_for() {
    let world = Arc::new(World::default());
    let orchestrator = two_nodes(&world).await;
    let (reached, mut wait) = tokio::sync::mpsc::unbounded_channel();
    world.set_troubles(Box::new(move |node, step| {
        (node == "B" && step == Step::Resume && reached.send(()).is_ok()).then_some(Trouble::DiesBefore)
    }));
    let id = orchestrator.migrate("looper", "B").await;
    tokio::time::timeout(support::DEADLINE, wait.recv()).await.expect("the step is reached");
    orchestrator.nodes[1].abort();
    let path = format!("/v1/migrations/{id}/resolve");
    let (status, body) = orchestrator.post(&path, serde_json::json!({"keep": "source"})).await;
    assert_eq!(status, 202, "{body}");
    let decided = || async {
        let migration = orchestrator.get(&format!("/v1/migrations/{id}")).await;
        (migration["phase"] == "rolling-back").then_some(())
    };
    orchestrator.until("it waits for B", decided).await;
    assert_eq!(world.running("looper"), Vec::<String>::new(), "B may run it: A waits");
    let word = serde_json::json!({"keep": "source", "destination_is_gone": true});
    let (status, body) = orchestrator.post(&path, word).await;
    assert_eq!(status, 202, "{body}");
    assert_eq!(orchestrator.over(&id).await.phase, Phase::RolledBack);
    assert_eq!(world.running("looper"), ["A"]);
    assert_eq!(orchestrator.owner("looper").await, ("A".to_owned(), 3));
}
