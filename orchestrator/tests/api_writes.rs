//! Writes: repeated, tried out, allowed, remembered.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;

use fog_sim::world::World;
use serde_json::{Value, json};
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

#[tokio::test]
async fn a_write_that_is_repeated_under_its_key_is_done_once_also_across_a_restart() {
    let world = Arc::new(World::default());
    let mut orchestrator = two_nodes(&world).await;
    let move_it = json!({"workload": "looper", "destination": "B"});
    let key = [("idempotency-key", "one")];
    let first = orchestrator.send("POST", "/v1/migrations", &key, Some(move_it.clone())).await;
    assert_eq!(first.status, 202, "{}", first.body);
    let location = first.headers["location"].to_str().unwrap();
    assert_eq!(location, format!("/v1/migrations/{}", first.body["id"].as_str().unwrap()));
    orchestrator.over(first.body["id"].as_str().unwrap()).await;
    orchestrator.kill();
    orchestrator.restart().await;
    for _ in 0..3 {
        let again = orchestrator.send("POST", "/v1/migrations", &key, Some(move_it.clone())).await;
        assert_eq!((again.status, &again.body), (202, &first.body), "the very same answer");
        assert_eq!(again.headers["location"], location);
        assert_eq!(again.headers["idempotency-replayed"], "true");
    }
    assert_eq!(orchestrator.get("/v1/migrations").await["items"].as_array().unwrap().len(), 1);
    let other = json!({"workload": "looper", "destination": "A"});
    let reused = orchestrator.send("POST", "/v1/migrations", &key, Some(other)).await;
    assert_eq!((reused.status, &reused.body["type"]), (422, &"urn:fogshift:problem:key-reused".into()));
    let long = "k".repeat(256);
    for bad in ["", "with blank", &long] {
        let refused =
            orchestrator.send("POST", "/v1/migrations", &[("idempotency-key", bad)], Some(move_it.clone())).await;
        let parameter = &refused.body["errors"][0]["parameter"];
        assert_eq!((refused.status, parameter), (400, &"Idempotency-Key".into()));
    }
}

#[tokio::test]
async fn many_at_once_under_one_key_are_one_write() {
    let world = Arc::new(World::default());
    let orchestrator = two_nodes(&world).await;
    let body = json!({"name": "ann", "role": "reader"});
    let key = [("idempotency-key", "same")];
    let all: Vec<_> = (0..20).map(|_| orchestrator.send("POST", "/v1/tokens", &key, Some(body.clone()))).collect();
    let statuses: Vec<u16> = futures_util::future::join_all(all).await.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [201, 409].contains(status)), "a secret is not told twice: {statuses:?}");
    assert_eq!(orchestrator.list("/v1/tokens").await.len(), 1);
}

#[tokio::test]
async fn a_dry_run_checks_everything_and_does_nothing() {
    let world = Arc::new(World::default());
    let orchestrator = two_nodes(&world).await;
    let past = || async {
        orchestrator
            .http
            .get(format!("{}/v1/events?follow=false", orchestrator.url))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
    };
    let before = past().await;
    let dry = |method: &'static str, path: &str, body: Value| {
        let path = format!("{path}?dry_run=true");
        let orchestrator = &orchestrator;
        async move { orchestrator.send(method, &path, &[("if-match", "*")], Some(body)).await }
    };
    let planned = dry("POST", "/v1/migrations", json!({"workload": "looper"})).await;
    assert_eq!((planned.status, &planned.body["destination"]), (200, &"B".into()), "{}", planned.body);
    assert!(!planned.body["candidates"].as_array().unwrap().is_empty());
    assert_eq!(dry("POST", "/v1/migrations", json!({"workload": "loper"})).await.status, 422);
    let node = dry("POST", "/v1/nodes/A/cordon", json!({})).await;
    assert_eq!((node.status, &node.body["cordoned"]), (200, &true.into()), "as it would be");
    assert_eq!(dry("POST", "/v1/nodes/A/drain", json!({})).await.status, 200);
    assert_eq!(dry("POST", "/v1/drains", json!({"node": "A"})).await.status, 200);
    assert_eq!(dry("POST", "/v1/drains", json!({"node": "Z"})).await.status, 422);
    assert_eq!(dry("POST", "/v1/tokens", json!({"name": "ann", "role": "admin"})).await.body["token"], "");
    assert_eq!(dry("PUT", "/v1/policy", json!({"text": "max_downtime_ms = 5"})).await.status, 200);
    let after = orchestrator.get("/v1/nodes/A").await;
    assert_eq!((&after["cordoned"], &after["draining"]), (&false.into(), &false.into()));
    assert_eq!(orchestrator.get("/v1/policy").await["version"], 1);
    assert_eq!(orchestrator.list("/v1/tokens").await, Vec::<Value>::new());
    assert_eq!(orchestrator.list("/v1/migrations").await, Vec::<Value>::new());
    assert_eq!(past().await, before, "nothing happened");
    assert_eq!(world.orders(), Vec::new());
}

#[tokio::test]
async fn a_reader_reads_and_an_administrator_s_token_can_be_taken_away() {
    let orchestrator = Orchestrator::start_configured("anonymous_reads = false\n").await;
    let make = |name: &str, role: &str| {
        orchestrator.send("POST", "/v1/tokens", &[], Some(json!({"name": name, "role": role})))
    };
    let reader = make("ann", "reader").await;
    let admin = make("bob", "admin").await;
    assert_eq!((reader.status, admin.status), (201, 201), "{}", reader.body);
    assert_eq!(make("ann", "admin").await.status, 409);
    assert_eq!(make("admin", "reader").await.status, 409);
    assert_eq!(make("a b", "reader").await.status, 422);
    let (reader, admin) = (reader.body["token"].as_str().unwrap(), admin.body["token"].as_str().unwrap());
    for (token, who, role, read, write) in [
        (None, "", "", 401, 401),
        (Some("nonsense"), "", "", 401, 401),
        (Some(reader), "ann", "reader", 200, 403),
        (Some(admin), "bob", "admin", 200, 404),
    ] {
        let status = |method: &'static str, path: &'static str| orchestrator.as_whom(token, method, path);
        assert_eq!(status("GET", "/v1/nodes").await.status, read, "{who}");
        assert_eq!(status("POST", "/v1/nodes/Z/cordon").await.status, write, "{who}");
        assert_eq!(status("GET", "/v1/tokens").await.status, if write == 404 { 200 } else { write }, "{who}");
        let me = status("GET", "/v1/whoami").await;
        if read == 200 {
            assert_eq!((&me.body["name"], &me.body["role"]), (&who.into(), &role.into()));
        }
        // To see that it lives, nobody needs a token.
        if token != Some("nonsense") {
            assert_eq!(status("GET", "/v1").await.status, 200);
        }
    }
    let database = std::fs::read(orchestrator.database()).unwrap();
    let log = std::fs::read(orchestrator.database().with_extension("db-wal")).unwrap_or_default();
    for file in [&database, &log] {
        assert!(!file.windows(reader.len()).any(|part| part == reader.as_bytes()), "the secret is not kept");
    }
    assert_eq!(orchestrator.send("DELETE", "/v1/tokens/bob", &[], None).await.status, 204);
    assert_eq!(orchestrator.send("DELETE", "/v1/tokens/bob", &[], None).await.status, 404);
    assert_eq!(orchestrator.as_whom(Some(admin), "GET", "/v1/nodes").await.status, 401);
}

#[tokio::test]
async fn the_audit_knows_who_did_what_and_no_secret() {
    let world = Arc::new(World::default());
    let orchestrator = two_nodes(&world).await;
    orchestrator.send("POST", "/v1/drains", &[("idempotency-key", "k1")], Some(json!({"node": "A"}))).await;
    orchestrator.send("POST", "/v1/migrations", &[], Some(json!({"workload": "nobody", "secret": "hush"}))).await;
    orchestrator.send("POST", "/v1/nodes/B/cordon?dry_run=true", &[], None).await;
    let audit = orchestrator.list("/v1/audit?sort=at").await;
    let words: Vec<(&str, &str, u64, bool)> = audit
        .iter()
        .map(|e| {
            let text = |name: &str| e[name].as_str().unwrap();
            (text("who"), text("action"), e["status"].as_u64().unwrap(), e["dry_run"].as_bool().unwrap())
        })
        .collect();
    assert_eq!(
        words,
        [
            ("admin", "POST /v1/drains", 202, false),
            ("admin", "POST /v1/migrations", 400, false),
            ("admin", "POST /v1/nodes/{name}/cordon", 200, true),
        ]
    );
    assert_eq!((&audit[0]["request"], &audit[0]["idempotency_key"]), (&json!({"node": "A"}), &"k1".into()));
    assert!(audit[0]["remote"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(audit[1]["problem"], "urn:fogshift:problem:malformed");
    assert_eq!(audit[1]["request"]["secret"], "***");
    assert_eq!(orchestrator.list("/v1/audit?min_status=400").await.len(), 1);
    assert_eq!(orchestrator.list("/v1/audit?action=POST%20/v1/drains").await.len(), 1);
}

#[tokio::test]
async fn a_drain_can_be_followed_and_stopped() {
    let world = Arc::new(World::default());
    let orchestrator = two_nodes(&world).await;
    let begun = orchestrator.send("POST", "/v1/drains", &[], Some(json!({"node": "A"}))).await;
    assert_eq!((begun.status, &begun.headers["location"]), (202, &"/v1/drains/A".parse().unwrap()));
    let empty = || async { (orchestrator.get("/v1/drains/A").await["done"] == true).then_some(()) };
    orchestrator.until("A is empty", empty).await;
    let drain = orchestrator.get("/v1/drains").await["items"][0].clone();
    assert_eq!((&drain["node"], &drain["by"], &drain["remaining"]), (&"A".into(), &"admin".into(), &json!([])));
    // B cannot be emptied: A takes nothing.
    orchestrator.send("POST", "/v1/drains", &[], Some(json!({"node": "B"}))).await;
    let stuck = orchestrator.get("/v1/drains/B").await;
    assert_eq!((&stuck["done"], &stuck["remaining"][0]["workload"]), (&false.into(), &"looper".into()));
    let reason = || async {
        let stuck = orchestrator.get("/v1/drains/B").await;
        stuck["remaining"][0]["reason"].as_str().map(str::to_owned)
    };
    assert!(!orchestrator.until("B says why", reason).await.is_empty());
    let stopped = orchestrator.send("DELETE", "/v1/drains/B", &[], None).await;
    assert_eq!(
        (stopped.status, &stopped.body["draining"], &stopped.body["cordoned"]),
        (200, &false.into(), &true.into())
    );
    assert_eq!(orchestrator.send("DELETE", "/v1/drains/B", &[], None).await.status, 404);
    assert_eq!(world.violations(), Vec::<String>::new());
}
