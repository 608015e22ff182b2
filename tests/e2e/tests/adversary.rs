//! Workloads that nobody can send ahead of: `auto` keeps within the freeze that they bear, or refuses and says why.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::{self, Command};

use fog_api::migration::{Migration, MigrationRequest, Phase, Strategy};
use fog_e2e::cluster::{Cluster, DEADLINE, leftovers, state};
use fog_e2e::{pages, workloads};
use fog_lab::{CgroupVersion, LabConfig, Suite, wait_until};

/// What they bear, in milliseconds, and what the link carries: 64 MiB take it thirteen seconds.
const BUDGET: u64 = 3000;
const LINK: &str = "40mbit";

/// Starts one with this much memory that it writes at this pace, and waits until it holds it.
fn run(cluster: &Cluster, name: &str, mib: u32, dirty_mib_per_s: u32, labels: &[&str]) {
    let (mib, dirty) = (mib.to_string(), dirty_mib_per_s.to_string());
    start(cluster, name, labels, pages::IMAGE, &["/bin/fog-pages", &mib, &dirty]);
}

fn start(cluster: &Cluster, name: &str, labels: &[&str], image: &str, command: &[&str]) {
    let a = cluster.node("A");
    let labels: Vec<&str> = labels.iter().flat_map(|label| ["--label", label]).collect();
    let run = ["docker", "run", "--detach", "--name", name];
    a.run(&[&run[..], &labels, &[image], command].concat()).unwrap();
    wait_until(DEADLINE, "its memory to be filled", || {
        Ok(a.run(&["docker", "logs", name])?.contains("ready").then_some(()))
    })
    .unwrap();
    cluster.wait_known(name, "A").unwrap();
}

fn moved(cluster: &Cluster, name: &str) -> Migration {
    cluster.wait_active().unwrap();
    let begun = wait_until(DEADLINE, "the move to be taken", || match cluster.begin_by(name, "B", Strategy::Auto) {
        Err(error) if format!("{error:#}").contains("changed its owner") => Ok(None),
        other => other.map(Some),
    });
    let migration = cluster.over(begun.unwrap().id).unwrap();
    eprintln!(
        "{name}: {} ({:?}): {} after {:?} ms frozen, {:?}",
        migration.strategy, migration.strategy_reason, migration.phase, migration.downtime_ms, migration.cause
    );
    assert!(migration.auto);
    migration
}

/// Waits until `auto` would give a reason with these words.
fn reasons(cluster: &Cluster, name: &str, words: &str) {
    let request = MigrationRequest { workload: name.into(), destination: Some("B".into()), strategy: Strategy::Auto };
    let body = serde_json::to_string(&request).unwrap();
    let (url, token) = (cluster.lab().url(), cluster.lab().token().unwrap());
    let told = wait_until(DEADLINE, &format!("auto to say {words:?} of {name}"), || {
        let output = Command::new("curl")
            .args(["-s", "-X", "POST", "-H", "Content-Type: application/json", "-d", &body])
            .args(["-H", &format!("Authorization: Bearer {token}"), &format!("{url}/v1/migrations?dry_run=true")])
            .output()?;
        let decision: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        Ok(decision["strategy_reason"].as_str().filter(|reason| reason.contains(words)).map(str::to_owned))
    });
    eprintln!("{name}: {}", told.unwrap());
}

#[test]
fn auto_keeps_within_the_budget_or_refuses() {
    let mut config = LabConfig::new(&format!("adversary-{}", process::id()), &["A", "B"]);
    for node in &mut config.nodes {
        (node.suite, node.cgroup) = (Suite::Forky, Some(CgroupVersion::V2));
    }
    let cluster = Cluster::up(config, &mut |line| eprintln!("adversary: {line}")).unwrap();
    cluster.lab().load_image(&pages::image().unwrap()).unwrap();
    workloads::load(cluster.lab().nodes(), &workloads::python().unwrap()).unwrap();
    let a = cluster.node("A");
    a.limit_rate(Some(LINK)).unwrap();
    let budget = format!("fogshift.max-downtime-ms={BUDGET}");

    eprintln!(
        "== nobody has measured the link, and stop-and-copy looks short enough: measured before the freeze, it is not"
    );
    let calm = "import os, time\nkept = os.urandom(16 << 20)\nprint('ready', flush=True)\nwhile True: time.sleep(0.1)";
    start(&cluster, "calm", &[&budget], workloads::PYTHON, &["python3", "-c", calm]);
    let refused = moved(&cluster, "calm");
    assert_eq!((refused.phase, refused.strategy), (Phase::RolledBack, Strategy::StopAndCopy));
    let message = refused.cause.unwrap().message;
    assert!(message.contains("3000 ms are allowed") && message.contains("MB/s at the moment"), "{message}");
    assert_eq!(state(a, "calm").unwrap().as_deref(), Some("running"));

    eprintln!("== that taught it what the link carries: next time it sends ahead");
    reasons(&cluster, "calm", "it is sent while it runs");
    let done = moved(&cluster, "calm");
    assert_eq!((done.phase, done.strategy), (Phase::Done, Strategy::PreCopy));
    assert!(done.downtime_ms.unwrap() <= BUDGET as f64, "{done:?}");

    eprintln!(
        "== it writes faster than the link carries, and may not run ahead of its memory: refused before the freeze"
    );
    run(&cluster, "furious", 64, 300, &[&budget]);
    let refused = moved(&cluster, "furious");
    assert_eq!(refused.phase, Phase::RolledBack);
    let message = refused.cause.unwrap().message;
    assert!(message.contains("3000 ms are allowed"), "{message}");
    assert!(refused.memory.unwrap().dirty_bytes_per_s.is_none_or(|rate| rate > 2 << 20));
    assert_eq!(state(a, "furious").unwrap().as_deref(), Some("running"));
    pages::checks_on(a, "furious").unwrap();

    eprintln!("== it may: the writing is measured, so nothing is sent in vain");
    run(&cluster, "allowed", 64, 300, &[&budget, "fogshift.post-copy=allowed"]);
    reasons(&cluster, "allowed", "it writes faster than that");
    let done = moved(&cluster, "allowed");
    assert_eq!((done.phase, done.strategy), (Phase::Done, Strategy::PostCopy));
    assert!(done.downtime_ms.unwrap() <= BUDGET as f64, "{done:?}");
    pages::checks_on(cluster.node("B"), "allowed").unwrap();

    let explained = cluster.fogctl().unwrap().args(["explain", &done.id.to_string()]).output().unwrap();
    let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(explained.contains("post-copy: ") && explained.contains("it writes faster"), "{explained}");
    let clean = wait_until(DEADLINE, "both nodes to be clean", || {
        let left = [leftovers(cluster.node("A"))?, leftovers(cluster.node("B"))?].concat();
        Ok(left.is_empty().then_some(()))
    });
    clean.unwrap();
}
