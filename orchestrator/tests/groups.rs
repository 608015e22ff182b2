//! A group whose members' migrations do not all end well.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use fog_api::agent::{Failure, FailureKind, Step};
use fog_sim::world::World;
use support::{Orchestrator, POLICY};

const MEMBERS: [&str; 2] = ["app", "db"];

/// A has the group, B has room. `fails` says which of the restores on B fail, counted from 1.
async fn shop(world: &Arc<World>, fails: fn(u32) -> bool) -> Orchestrator {
    let restores = AtomicU32::new(0);
    world.set_fault(Box::new(move |node, step| {
        let fails = node == "B" && step == Step::Restore && fails(restores.fetch_add(1, Ordering::Relaxed) + 1);
        let message = "no restore for this one".to_owned();
        fails.then_some(Failure { kind: FailureKind::Refused, message, log: Vec::new() })
    }));
    let policy = format!("[cooldown]\nfailed_s = 0.3\n{POLICY}");
    let mut orchestrator = Orchestrator::start_with(&policy).await;
    for member in MEMBERS {
        world.run("A", member);
        world.label(member, "fogshift.group", "shop");
    }
    orchestrator.node(world, "A", 0.5, &[("B", 2.0)]);
    orchestrator.node(world, "B", 0.2, &[("A", 2.0)]);
    orchestrator.active(2).await;
    orchestrator
}

async fn together(orchestrator: &Orchestrator, world: &World, node: &str) {
    let there = || async {
        let all = MEMBERS.iter().all(|member| world.running(member) == [node] && world.holding(member) == [node]);
        all.then_some(())
    };
    orchestrator.until(&format!("all of the group is on {node}"), there).await;
}

async fn reunited(orchestrator: &Orchestrator) -> serde_json::Value {
    let decisions = orchestrator.get("/v1/decisions?limit=100").await;
    let items = decisions["items"].as_array().unwrap();
    items.iter().find(|one| one["trigger"] == "reunite").cloned().unwrap_or_default()
}

/// Begins to empty A, so that both members leave it.
async fn drain(orchestrator: &Orchestrator) {
    let (status, answer) = orchestrator.post("/v1/nodes/A/drain", serde_json::Value::Null).await;
    assert_eq!(status, 202, "{answer}");
}

#[tokio::test]
async fn who_stayed_follows() {
    let world = Arc::new(World::default());
    let orchestrator = shop(&world, |count| count == 2).await;
    drain(&orchestrator).await;
    together(&orchestrator, &world, "B").await;
    let decision = reunited(&orchestrator).await;
    assert_eq!((&decision["source"], &decision["destination"]), (&"A".into(), &"B".into()), "{decision}");
    assert!(decision["reason"].as_str().unwrap().starts_with("The group shop is split: "), "{decision}");
    assert_eq!(world.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn who_left_comes_back_when_the_other_cannot_follow() {
    let world = Arc::new(World::default());
    let orchestrator = shop(&world, |count| count >= 2).await;
    drain(&orchestrator).await;
    let split = || async { reunited(&orchestrator).await["id"].as_str().map(str::to_owned) };
    orchestrator.until("the group is split, and the other one was told to follow", split).await;
    // Who left may come back only to a node where new ones may be placed.
    let answer = orchestrator.send("DELETE", "/v1/drains/A", &[], None).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let (status, answer) = orchestrator.post("/v1/nodes/A/uncordon", serde_json::Value::Null).await;
    assert_eq!(status, 200, "{answer}");
    together(&orchestrator, &world, "A").await;
    let decisions = orchestrator.get("/v1/decisions?limit=100").await;
    let back = |one: &serde_json::Value| one["trigger"] == "reunite" && one["destination"] == "A";
    assert!(decisions["items"].as_array().unwrap().iter().any(back), "{decisions}");
    assert_eq!(world.violations(), Vec::<String>::new());
}
