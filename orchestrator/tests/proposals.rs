//! What the planner may not do by itself: proposed, approved, dismissed. And what it does without moving: limits.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;

use fog_api::migration::Phase;
use fog_sim::world::World;
use serde_json::Value;
use support::{Orchestrator, POLICY};

/// A is overloaded and B has room.
async fn hot(autonomy: &str, world: &Arc<World>) -> Orchestrator {
    let mut orchestrator = Orchestrator::start_with(&format!("autonomy = \"{autonomy}\"\n{POLICY}")).await;
    world.run("A", "looper");
    orchestrator.node(world, "A", 0.9, &[("B", 2.0)]);
    orchestrator.node(world, "B", 0.2, &[("A", 2.0)]);
    orchestrator.active(2).await;
    orchestrator
}

async fn decided(orchestrator: &Orchestrator, status: &str) -> Value {
    let newest = || async {
        let decisions = orchestrator.get("/v1/decisions").await;
        decisions["items"].as_array()?.iter().find(|decision| decision["status"] == status).cloned()
    };
    orchestrator.until(&format!("a decision that is {status}"), newest).await
}

async fn answer(orchestrator: &Orchestrator, decision: &Value, word: &str) -> (u16, Value) {
    let id = decision["id"].as_str().unwrap();
    orchestrator.post(&format!("/v1/decisions/{id}/{word}"), Value::Null).await
}

#[tokio::test]
async fn what_needs_approval_waits_for_it_and_then_moves() {
    let world = Arc::new(World::default());
    let orchestrator = hot("confirm", &world).await;
    let proposed = decided(&orchestrator, "proposed").await;
    assert_eq!((&proposed["workload"], &proposed["destination"]), (&"looper".into(), &"B".into()));
    assert_eq!(proposed["migration"], Value::Null);
    assert_eq!(orchestrator.get("/v1/migrations").await["items"], Value::Array(Vec::new()));
    let (status, approved) = answer(&orchestrator, &proposed, "approve").await;
    assert_eq!((status, &approved["status"]), (202, &"approved".into()), "{approved}");
    assert_eq!(orchestrator.over(approved["migration"].as_str().unwrap()).await.phase, Phase::Done);
    assert_eq!(world.running("looper"), ["B"]);
    let (status, problem) = answer(&orchestrator, &proposed, "approve").await;
    assert_eq!((status, problem["type"].as_str()), (409, Some("urn:fogshift:problem:not-open")));
    let stored = orchestrator.get(&format!("/v1/decisions/{}", proposed["id"].as_str().unwrap())).await;
    assert_eq!(stored["migration"], approved["migration"]);
}

#[tokio::test]
async fn what_is_dismissed_is_left_alone_also_after_a_restart() {
    let world = Arc::new(World::default());
    let mut orchestrator = hot("confirm", &world).await;
    let proposed = decided(&orchestrator, "proposed").await;
    let (status, dismissed) = answer(&orchestrator, &proposed, "dismiss").await;
    assert_eq!((status, &dismissed["status"]), (200, &"dismissed".into()), "{dismissed}");
    let left_alone = async |orchestrator: &Orchestrator| {
        let says_so = || async {
            let plan = orchestrator.get("/v1/plan").await;
            (plan["not_moved"][0]["reasons"][0]["code"] == "dismissed").then_some(())
        };
        orchestrator.until("the plan respects the dismissal", says_so).await;
    };
    left_alone(&orchestrator).await;
    orchestrator.kill();
    orchestrator.restart().await;
    orchestrator.active(2).await;
    left_alone(&orchestrator).await;
    assert_eq!(world.running("looper"), ["A"]);
    let unknown = serde_json::json!({"id": uuid::Uuid::nil().to_string()});
    assert_eq!(answer(&orchestrator, &unknown, "dismiss").await.0, 404);
}

#[tokio::test]
async fn a_recommendation_is_advice_only_and_withdrawn_when_it_no_longer_holds() {
    let world = Arc::new(World::default());
    let mut orchestrator = hot("manual", &world).await;
    let recommended = decided(&orchestrator, "recommended").await;
    let (status, problem) = answer(&orchestrator, &recommended, "approve").await;
    assert_eq!((status, problem["type"].as_str()), (409, Some("urn:fogshift:problem:advice-only")));
    assert!(problem["detail"].as_str().unwrap().contains("fogctl migrate looper --to B"), "{problem}");
    // What was open is not forgotten by a restart, nor left open for ever.
    orchestrator.kill();
    orchestrator.restart().await;
    let withdrawn = decided(&orchestrator, "withdrawn").await;
    assert_eq!(withdrawn["id"], recommended["id"]);
    assert_eq!(world.running("looper"), ["A"]);
}

#[tokio::test]
async fn a_container_at_its_limit_is_enlarged_where_it_is_and_shrunk_when_it_is_idle() {
    let world = Arc::new(World::default());
    let mut orchestrator = Orchestrator::start().await;
    world.run("A", "looper");
    world.burn("looper", 0.5, Some(0.5));
    orchestrator.node(&world, "A", 0.3, &[("B", 2.0)]);
    orchestrator.node(&world, "B", 0.2, &[("A", 2.0)]);
    orchestrator.active(2).await;
    let enlarged = || async { (world.cpus("looper").limit == Some(0.75)).then_some(()) };
    orchestrator.until("the limit grows", enlarged).await;
    let done = decided(&orchestrator, "done").await;
    assert_eq!((&done["kind"], &done["limits"]["to"]["cpus"]), (&"resize".into(), &0.75.into()));
    // What it was created with is remembered across a restart, although Docker no longer knows it.
    orchestrator.kill();
    orchestrator.restart().await;
    world.burn("looper", 0.01, None);
    let shrunk = || async { (world.cpus("looper").limit == Some(0.5)).then_some(()) };
    orchestrator.until("the limit shrinks to what it was", shrunk).await;
    assert_eq!(orchestrator.get("/v1/migrations").await["items"], Value::Array(Vec::new()), "nothing has moved");
}

#[tokio::test]
async fn a_changed_policy_file_is_noticed_and_its_version_goes_on_after_a_restart() {
    let mut orchestrator = Orchestrator::start().await;
    let in_force = async |orchestrator: &Orchestrator, version: u64, ms: u64| {
        let seen = || async {
            let policy = orchestrator.get("/v1/policy").await;
            (policy["version"] == version && policy["policy"]["max_downtime_ms"] == ms).then_some(policy)
        };
        orchestrator.until("the new policy is in force", seen).await
    };
    orchestrator.write_policy(&format!("max_downtime_ms = 777\n{POLICY}"));
    in_force(&orchestrator, 2, 777).await;
    orchestrator.write_policy("max_downtime = 1\n");
    let refused = || async { orchestrator.get("/v1/policy").await["refused"].as_str().map(str::to_owned) };
    let why = orchestrator.until("the bad policy is refused", refused).await;
    assert!(why.contains("policy.toml:1:1") && why.contains("max_downtime_ms"), "{why}");
    assert_eq!(in_force(&orchestrator, 2, 777).await["version"], 2);
    orchestrator.write_policy(&format!("max_downtime_ms = 777\n{POLICY}"));
    let good_again = || async { orchestrator.get("/v1/policy").await["refused"].is_null().then_some(()) };
    orchestrator.until("the file is good again", good_again).await;
    orchestrator.kill();
    orchestrator.restart().await;
    in_force(&orchestrator, 2, 777).await;
}
