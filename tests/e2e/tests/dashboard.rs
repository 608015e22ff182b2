//! The dashboard in a real browser, with the demo's four hosts behind it. What a person does there is in
//! `web/tests/real.spec.ts`; here the hosts are started, made busy, and removed again.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::{self, Command};

use fog_e2e::cluster::{Cluster, DEADLINE, programs};
use fog_lab::images::LOOPER;
use fog_lab::{LabConfig, wait_until};

const LOAD: [(&str, f64); 4] = [("A", 0.90), ("B", 0.65), ("C", 0.20), ("D", 0.15)];

#[test]
fn a_person_runs_the_fog_from_the_dashboard() {
    let instance = format!("dash-{}", process::id());
    let mut config = LabConfig::new(&instance, &LOAD.map(|(name, _)| name));
    for node in &mut config.nodes {
        node.cpus = Some(0.5);
        node.labels.insert("site".into(), if node.name == "D" { "far" } else { "near" }.into());
        if node.name == "D" {
            node.link = "rate=20mbit,delay=40ms,jitter=2ms".parse().unwrap();
        }
    }
    let cluster = Cluster::up(config, &mut |line| eprintln!("{line}")).unwrap();
    for (node, utilization) in LOAD {
        cluster.lab().burn(node, utilization).unwrap();
    }
    let hot = wait_until(DEADLINE, "A to be overloaded", || {
        let node = cluster.ask(|client| async move { client.node("A").await })?;
        Ok(node.utilization.filter(|utilization| utilization.cpu_sustained > 0.82).map(drop))
    });
    hot.unwrap();

    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web");
    let status = Command::new("npx")
        .args(["playwright", "test", "--project", "real"])
        .current_dir(&web)
        .env("FOG_URL", cluster.lab().url())
        .env("FOG_TOKEN", cluster.lab().token().unwrap())
        .env("FOG_LAB", programs().unwrap().join("fog-lab"))
        .env("FOG_LAB_INSTANCE", &instance)
        .env("LOOPER", LOOPER[2])
        .status()
        .expect("npx cannot be run: `make build` installs what the dashboard's tests need");
    if !status.success() {
        cluster.lab().save_logs(&web.join("test-results/lab")).unwrap();
    }
    assert!(status.success(), "the dashboard's tests failed; the hosts' logs are in web/test-results/lab");
}
