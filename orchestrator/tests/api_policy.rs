//! The policy through the API: two people at once, mistakes, history, the way back.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use fog_sim::world::World;
use serde_json::{Value, json};
use support::{Orchestrator, POLICY};

fn with(line: &str) -> String {
    format!("{line}\n{POLICY}")
}

#[tokio::test]
async fn of_two_people_who_edit_at_once_one_is_told_and_loses_nothing() {
    let orchestrator = Orchestrator::start().await;
    let read = orchestrator.send("GET", "/v1/policy", &[], None).await;
    let tag = read.headers["etag"].to_str().unwrap().to_owned();
    assert_eq!((tag.as_str(), read.body["text"].as_str().unwrap()), ("\"1\"", POLICY));
    let put = |value: u32| {
        let body = json!({"text": with(&format!("max_downtime_ms = {value}")), "note": format!("by {value}")});
        let (orchestrator, tag) = (&orchestrator, &tag);
        async move { orchestrator.send("PUT", "/v1/policy", &[("if-match", tag)], Some(body)).await }
    };
    let (ann, bob) = (put(111), put(222));
    let (ann, bob) = tokio::join!(ann, bob);
    let mut statuses = [ann.status, bob.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412], "{} {}", ann.body, bob.body);
    let (winner, loser) = if ann.status == 200 { (ann, bob) } else { (bob, ann) };
    assert_eq!(loser.body["type"], "urn:fogshift:problem:match-failed");
    assert_eq!(winner.headers["etag"], "\"2\"");
    let now = orchestrator.get("/v1/policy").await;
    assert_eq!((&now["version"], &now["policy"], &now["by"]), (&2.into(), &winner.body["policy"], &"admin".into()));
    // The loser reads, and puts its change on top.
    let body = json!({"text": with("max_downtime_ms = 333")});
    let again = orchestrator.send("PUT", "/v1/policy", &[("if-match", "\"2\"")], Some(body)).await;
    assert_eq!((again.status, &again.body["policy"]["max_downtime_ms"]), (200, &333.into()));
}

#[tokio::test]
async fn a_mistake_is_shown_with_line_column_field_and_the_nearest_name() {
    let orchestrator = Orchestrator::start().await;
    let wrong = json!({"text": "# mine\n[overload]\ncpu = { strat = 0.9, done = 0.7 }\n"});
    for (method, path, headers, status) in [
        ("PUT", "/v1/policy", &[("if-match", "\"1\"")][..], 422),
        ("PUT", "/v1/policy?dry_run=true", &[("if-match", "\"1\"")][..], 422),
        ("PUT", "/v1/policy", &[][..], 428),
        ("PUT", "/v1/policy", &[("if-match", "\"old\"")][..], 412),
    ] {
        let answer = orchestrator.send(method, path, headers, Some(wrong.clone())).await;
        assert_eq!(answer.status, status, "{path} {headers:?}: {}", answer.body);
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        if status == 422 {
            let error = &answer.body["errors"][0];
            assert_eq!(error["pointer"], "/text");
            assert_eq!(error["place"], json!({"line": 3, "column": 9}));
            assert_eq!(error["field"], "overload.cpu.strat");
            assert!(error["detail"].as_str().unwrap().contains("did you mean \"start\"?"), "{error}");
        }
    }
    let checked = orchestrator.send("POST", "/v1/policy/check", &[], Some(wrong)).await;
    assert_eq!((checked.status, &checked.body["valid"]), (200, &false.into()));
    let good = json!({"text": with("max_downtime_ms = 5")});
    let checked = orchestrator.send("POST", "/v1/policy/check", &[], Some(good)).await;
    let change = json!([{"field": "max_downtime_ms", "from": 10_000, "to": 5}]);
    assert_eq!((&checked.body["valid"], &checked.body["changes"]), (&true.into(), &change));
    assert_eq!(orchestrator.get("/v1/policy").await["version"], 1, "nothing of all this changed anything");
}

#[tokio::test]
async fn the_history_shows_who_changed_what_and_leads_back_across_a_restart() {
    let mut orchestrator = Orchestrator::start().await;
    for (version, value) in [(1, 111), (2, 222)] {
        let body = json!({"text": with(&format!("max_downtime_ms = {value}")), "note": format!("try {value}")});
        let tag = format!("\"{version}\"");
        let dry = orchestrator.send("PUT", "/v1/policy?dry_run=true", &[("if-match", &tag)], Some(body.clone())).await;
        assert_eq!((dry.status, &dry.body["version"]), (200, &(version + 1).into()));
        assert_eq!(orchestrator.send("PUT", "/v1/policy", &[("if-match", &tag)], Some(body)).await.status, 200);
    }
    orchestrator.kill();
    orchestrator.restart().await;
    assert_eq!(orchestrator.get("/v1/policy").await["policy"]["max_downtime_ms"], 222, "the file said nothing new");
    let history = orchestrator.get("/v1/policy/history").await;
    let words: Vec<(u64, &str, &str)> = history["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| (v["version"].as_u64().unwrap(), v["source"].as_str().unwrap(), v["by"].as_str().unwrap()))
        .collect();
    assert_eq!(words, [(3, "api", "admin"), (2, "api", "admin"), (1, "file", "policy file")]);
    let third = orchestrator.get("/v1/policy/history/3").await;
    assert_eq!(third["changes"], json!([{"field": "max_downtime_ms", "from": 111, "to": 222}]));
    let diff = third["diff"].as_str().unwrap();
    assert!(diff.contains("-max_downtime_ms = 111\n+max_downtime_ms = 222\n"), "{diff}");
    let whole = orchestrator.get("/v1/policy/history/3?against=1").await;
    assert_eq!(whole["changes"], json!([{"field": "max_downtime_ms", "from": 10_000, "to": 222}]));

    let back = json!({"version": 2});
    let lost = orchestrator.send("POST", "/v1/policy/rollback", &[("if-match", "\"2\"")], Some(back.clone())).await;
    assert_eq!(lost.status, 412);
    let done = orchestrator.send("POST", "/v1/policy/rollback", &[("if-match", "\"3\"")], Some(back)).await;
    assert_eq!((done.status, &done.body["version"], &done.body["source"]), (200, &4.into(), &"rollback".into()));
    assert_eq!(done.body["policy"]["max_downtime_ms"], 111);
    let none =
        orchestrator.send("POST", "/v1/policy/rollback", &[("if-match", "*")], Some(json!({"version": 99}))).await;
    assert_eq!((none.status, &none.body["errors"][0]["pointer"]), (422, &"/version".into()));
    assert_eq!(orchestrator.get("/v1/policy/history/99").await["status"], 404);
    // A changed file is news again.
    orchestrator.write_policy(&with("max_downtime_ms = 444"));
    orchestrator.kill();
    orchestrator.restart().await;
    let policy = orchestrator.get("/v1/policy").await;
    assert_eq!((&policy["version"], &policy["policy"]["max_downtime_ms"]), (&5.into(), &444.into()));
}

#[tokio::test]
async fn a_plan_can_be_tried_with_another_policy_and_another_cluster() {
    let orchestrator = Orchestrator::start().await;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/scenarios/planner/thesis-near-beats-idle");
    let read = |file: &str| std::fs::read_to_string(format!("{folder}/{file}")).unwrap();
    let snapshot: Value = serde_json::from_str(&read("snapshot.json")).unwrap();
    let policy = std::fs::read_to_string(format!("{folder}/policy.toml")).unwrap_or_default();
    let body = json!({"snapshot": snapshot, "policy": policy});
    let planned = orchestrator.send("POST", "/v1/plan", &[], Some(body)).await;
    assert_eq!((planned.status, &planned.body["actions"][0]["to"]), (200, &"C".into()), "{}", planned.body);
    let calm = json!({"snapshot": snapshot, "policy": "[overload]\ncpu = { start = 0.99, done = 0.98 }\n"});
    let planned = orchestrator.send("POST", "/v1/plan", &[], Some(calm)).await;
    assert_eq!(planned.body["actions"], json!([]), "{}", planned.body);
    let mut broken = snapshot.clone();
    broken["nodes"][1]["cpu"] = 90.into();
    let refused = orchestrator.send("POST", "/v1/plan", &[], Some(json!({"snapshot": broken}))).await;
    assert_eq!((refused.status, &refused.body["errors"][0]["pointer"]), (422, &"/snapshot/nodes/1/cpu".into()));
    let live = orchestrator.get("/v1/snapshot").await;
    let planned = orchestrator.send("POST", "/v1/plan", &[], Some(json!({"snapshot": live}))).await;
    assert_eq!((planned.status, &planned.body["actions"]), (200, &json!([])));
}

#[tokio::test]
async fn the_last_hours_can_be_replayed_under_another_policy() {
    let mut orchestrator = Orchestrator::start().await;
    let world = std::sync::Arc::new(World::default());
    world.run("A", "web");
    orchestrator.node(&world, "A", 0.3, &[]);
    orchestrator.active(1).await;
    orchestrator.workload_on("web", "A").await;
    let replay = |body: Value| orchestrator.send("POST", "/v1/policy/replay", &[], Some(body));
    let answer = replay(json!({"text": POLICY, "hours": 1})).await;
    assert_eq!(
        (answer.status, &answer.body["complete"], &answer.body["nodes"]),
        (200, &true.into(), &1.into()),
        "{}",
        answer.body
    );
    assert_eq!((&answer.body["step_s"], answer.body["steps"].as_array().unwrap().len() >= 60), (&60.into(), true));
    assert_eq!((&answer.body["would_move"], &answer.body["overload_minutes"]), (&0.into(), &0.0.into()));
    for (body, pointer) in [
        (json!({"text": POLICY, "hours": 0}), "/hours"),
        (json!({"text": POLICY, "hours": 25}), "/hours"),
        (json!({"text": "min_gain = 7"}), "/text"),
    ] {
        let answer = replay(body).await;
        assert_eq!(
            (answer.status, answer.body["errors"][0]["pointer"].as_str().unwrap()),
            (422, pointer),
            "{}",
            answer.body
        );
    }
}
