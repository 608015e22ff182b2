//! Bad input gets an error that names the field or the reason, and changes nothing.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;

use fog_sim::world::World;
use serde_json::{Value, json};
use support::Orchestrator;

async fn two_nodes(world: &Arc<World>) -> Orchestrator {
    let mut orchestrator = Orchestrator::start().await;
    world.run("A", "looper");
    orchestrator.node(world, "A", 0.3, &[]);
    orchestrator.node(world, "B", 0.2, &[]);
    orchestrator.active(2).await;
    orchestrator.workload_on("looper", "A").await;
    orchestrator
}

fn kind(problem: &Value) -> &str {
    problem["type"].as_str().unwrap().strip_prefix("urn:fogshift:problem:").unwrap()
}

#[tokio::test]
async fn a_migration_that_makes_no_sense_is_refused_by_field() {
    let world = Arc::new(World::default());
    let orchestrator = two_nodes(&world).await;
    let cases = [
        (json!({"workload": "loper"}), 422, "unknown-workload", "/workload", "looper"),
        (json!({"workload": "looper", "destination": "Z"}), 422, "unknown-node", "/destination", "\"Z\""),
        (json!({"workload": "looper", "destination": "A"}), 409, "already-there", "/destination", "on A already"),
        (
            json!({"workload": "looper", "strategy": "post-copy"}),
            422,
            "strategy-unavailable",
            "/strategy",
            "fogshift.post-copy=allowed",
        ),
        (json!({"workload": "looper", "strategy": "teleport"}), 400, "malformed", "/strategy", "stop-and-copy"),
        (json!({"workload": 7}), 400, "malformed", "/workload", "string"),
        (json!({"workload": "looper", "to": "B"}), 400, "malformed", "", "destination"),
        (json!({}), 400, "malformed", "", "workload"),
    ];
    for (body, status, expected_kind, pointer, words) in cases {
        let (got, problem) = orchestrator.post("/v1/migrations", body.clone()).await;
        assert_eq!((got, kind(&problem)), (status, expected_kind), "{body}: {problem}");
        let error = &problem["errors"][0];
        assert!(error["pointer"].as_str().unwrap().starts_with(pointer), "{body}: {problem}");
        assert!(error["detail"].as_str().unwrap().contains(words), "{body}: {problem}");
    }
    assert_eq!(orchestrator.get("/v1/migrations").await["items"], json!([]));
    assert_eq!(world.orders(), Vec::new());
}

#[tokio::test]
async fn what_is_no_json_is_a_problem_and_no_page() {
    let orchestrator = Orchestrator::start().await;
    for body in ["", "{", "[]", "null", "{\"workload\":\"a\"} x", "\u{0}"] {
        let request = orchestrator.http.post(format!("{}/v1/migrations", orchestrator.url));
        let response = request.bearer_auth(&orchestrator.token).body(body).send().await.unwrap();
        assert_eq!(response.status(), 400, "{body:?}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }
}

#[tokio::test]
async fn a_body_of_100_mb_is_refused_and_the_client_reads_why() {
    let orchestrator = Orchestrator::start().await;
    let request =
        orchestrator.http.post(format!("{}/v1/migrations", orchestrator.url)).bearer_auth(&orchestrator.token);
    let response = request.body(vec![b' '; 100_000_000]).send().await.unwrap();
    assert_eq!(response.status(), 413);
    let problem: Value = response.json().await.unwrap();
    assert_eq!(kind(&problem), "too-large");
}

#[tokio::test]
async fn without_the_token_nothing_is_written_and_no_agent_let_in() {
    let orchestrator = Orchestrator::start().await;
    let url = |path: &str| format!("{}{path}", orchestrator.url);
    let wrong = "0".repeat(orchestrator.token.len());
    let requests = [
        orchestrator.http.post(url("/v1/migrations")).body("{}"),
        orchestrator.http.post(url("/v1/migrations")).bearer_auth(&wrong).body("{}"),
        orchestrator.http.post(url("/v1/migrations")).header("authorization", "Basic eDp5").body("{}"),
        orchestrator.http.post(url("/v1/migrations/00000000-0000-0000-0000-000000000000/cancel")),
        orchestrator.http.get(url(fog_api::agent::CHANNEL_PATH)).bearer_auth(&wrong),
    ];
    for request in requests {
        let response = request.send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), response.headers()["www-authenticate"].to_str().unwrap()),
            (401, "Bearer")
        );
        let problem: Value = response.json().await.unwrap();
        assert_eq!(kind(&problem), "unauthorised");
    }
}

#[tokio::test]
async fn unknown_paths_methods_and_parameters_are_problems() {
    let orchestrator = Orchestrator::start().await;
    let cases = [
        ("/v1/nodez", 404, "unknown-path"),
        ("/v1/nodes/Z", 404, "not-found"),
        ("/v1/migrations/7", 400, "malformed"),
        ("/v1/migrations/00000000-0000-0000-0000-000000000000", 404, "not-found"),
        ("/v1/migrations?limit=0", 400, "malformed"),
        ("/v1/migrations?limt=5", 400, "malformed"),
        ("/v1/decisions?limit=minus", 400, "malformed"),
        ("/page/secret", 404, "unknown-path"),
        ("/assets/nothing.js", 404, "unknown-path"),
        ("/assets/../index.html", 404, "unknown-path"),
    ];
    for (path, status, expected) in cases {
        let response = orchestrator.http.get(format!("{}{path}", orchestrator.url)).send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{path}");
        assert_eq!(kind(&response.json().await.unwrap()), expected, "{path}");
    }
    assert!(orchestrator.get("/v1").await["resources"].as_array().unwrap().contains(&json!("/v1/nodes")));
    let response = orchestrator.http.delete(format!("{}/v1/nodes", orchestrator.url)).send().await.unwrap();
    assert_eq!(response.status(), 405);
    assert_eq!(kind(&response.json().await.unwrap()), "unknown-method");
}

#[test]
fn a_malformed_policy_stops_the_start_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.toml");
    std::fs::write(&policy, "[overload.cpu]\nstart = 0.8\ndone = 0.7\n\n[wieghts]\ncpu = 1.0\n").unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_fog-orchestrator"))
        .args(["--listen", "127.0.0.1:0", "--data-dir"])
        .arg(dir.path().join("data"))
        .arg("--policy")
        .arg(&policy)
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    for part in ["policy.toml:5:", "wieghts", "weights"] {
        assert!(said.contains(part), "{part:?} is missing in: {said}");
    }
    assert!(!dir.path().join("data").exists(), "nothing was made");
}
