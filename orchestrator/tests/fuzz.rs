//! schemathesis against a real orchestrator with simulated nodes: whatever the document allows or forbids is sent, and
//! every answer must be one that the document knows. `make api-fuzz` installs it and runs this. `FOG_FUZZ_EXAMPLES` and
//! `FOG_FUZZ_ARGS` (more arguments, for example `--include-tag webhooks`) make a shorter or narrower run.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use fog_sim::world::World;
use serde_json::json;
use support::Orchestrator;

/// So many requests there are at least, each checked in every way that applies.
const LEAST_CASES: u64 = 20_000;

/// Random requests for every operation, beyond those that cover each part of its schema.
const EXAMPLES: u32 = 520;

/// A cluster with something of every kind in it.
async fn inhabited(world: &Arc<World>) -> Orchestrator {
    let mut orchestrator = Orchestrator::start().await;
    for (node, cpu) in [("A", 0.5), ("B", 0.2), ("C", 0.1)] {
        let others: Vec<_> = ["A", "B", "C"].into_iter().filter(|other| *other != node).map(|o| (o, 2.0)).collect();
        for index in 0..3 {
            world.run(node, &format!("w{node}{index}"));
        }
        orchestrator.node(world, node, cpu, &others);
    }
    orchestrator.active(3).await;
    orchestrator.workload_on("wC2", "C").await;
    for (workload, to) in [("wA0", "B"), ("wB0", "C")] {
        let id = orchestrator.migrate(workload, to).await;
        orchestrator.over(&id).await;
    }
    orchestrator.send("POST", "/v1/tokens", &[], Some(json!({"name": "ann", "role": "reader"}))).await;
    orchestrator
}

#[tokio::test]
#[ignore = "needs schemathesis: make api-fuzz"]
async fn no_request_gets_an_answer_that_the_document_does_not_know() {
    let world = Arc::new(World::default());
    let orchestrator = inhabited(&world).await;
    let program = std::env::var("FOG_SCHEMATHESIS").unwrap_or_else(|_| "st".to_owned());
    let cases = std::env::var("FOG_FUZZ_EXAMPLES").map_or(EXAMPLES, |text| text.parse().unwrap());
    let least = if cases < EXAMPLES { 0 } else { LEAST_CASES };
    let dir = tempfile::tempdir().unwrap();
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemathesis.toml");
    let output = tokio::process::Command::new(&program)
        .arg("--config-file")
        .arg(&config)
        .args(["run", &format!("{}/openapi.json", orchestrator.url), "--url", &orchestrator.url])
        .args(["--header", &format!("Authorization: Bearer {}", orchestrator.token)])
        .args(["--phases", "examples,coverage,fuzzing", "--checks", "all"])
        .args([
            "--max-examples",
            &cases.to_string(),
            "--workers",
            "2",
            "--seed",
            "1",
            "--continue-on-failure",
            "--no-color",
        ])
        .args(["--suppress-health-check", "all", "--request-timeout", "60"])
        .args(std::env::var("FOG_FUZZ_ARGS").unwrap_or_default().split_whitespace())
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap_or_else(|error| panic!("cannot run {program}: {error}; run `make api-fuzz`"));
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}{}", String::from_utf8_lossy(&output.stderr));
    let log = orchestrator.log();
    assert!(!log.contains("panicked"), "{log}");
    assert!(output.status.success(), "schemathesis found something, see above");
    assert_eq!(world.violations(), Vec::<String>::new());
    let count = said.lines().find_map(|line| line.split_once(" generated,")?.0.trim().parse::<u64>().ok());
    assert!(count.is_some_and(|count| count >= least), "{count:?} cases, not {least}");
}
