//! What the planner does by itself on real hosts: a container at its limit gets more of its node before anything moves, a
//! hot node is relieved and nothing comes back when it has cooled down, a drained node says what stays.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::{self, Output};

use fog_api::client::MigrationFilter;
use fog_api::decision::{Decision, Kind, Status};
use fog_api::migration::{Migration, Phase};
use fog_api::node::Node;
use fog_e2e::cluster::{Cluster, DEADLINE, leftovers, runs, state};
use fog_e2e::looper;
use fog_lab::images::BUSYBOX;
use fog_lab::{CgroupVersion, LabConfig, wait_until};

/// Cores of each host; where Docker's own work must not make one hot, more.
const QUOTA: f64 = 0.5;
const AMPLE: f64 = 1.5;
/// Works as hard as it may while there is a file `/busy`.
const HUNGRY: &str = "touch /busy; while :; do if [ -e /busy ]; then i=0; while [ $i -lt 5000 ]; do i=$((i+1)); done; else sleep 0.2; fi; done";

fn migrations(cluster: &Cluster) -> Vec<Migration> {
    cluster.ask(|client| async move { client.migrations(&MigrationFilter::default()).await }).unwrap().items
}

fn node(cluster: &Cluster, name: &str) -> Node {
    cluster.ask(|client| async move { client.node(name).await }).unwrap()
}

fn sustained(cluster: &Cluster, name: &str) -> f64 {
    node(cluster, name).utilization.map_or(0.0, |utilization| utilization.cpu_sustained)
}

/// Waits until the orchestrator has seen so many more samples of a node.
fn samples_pass(cluster: &Cluster, name: &str, count: usize) {
    let mut seen = Vec::new();
    let passed = wait_until(DEADLINE, &format!("{count} more samples of {name}"), || {
        let at = node(cluster, name).utilization.map(|utilization| utilization.at);
        if at.is_some() && seen.last() != Some(&at) {
            seen.push(at);
        }
        Ok((seen.len() > count).then_some(()))
    });
    passed.unwrap();
}

/// Docker's CPU limit of a container, in billionths of a core.
fn nano_cpus(cluster: &Cluster, node: &str, name: &str) -> u64 {
    let limit = cluster.node(node).run(&["docker", "inspect", "--format", "{{.HostConfig.NanoCpus}}", name]).unwrap();
    limit.trim().parse().unwrap()
}

fn fogctl(cluster: &Cluster, arguments: &[&str]) -> Output {
    cluster.fogctl().unwrap().args(arguments).output().unwrap()
}

fn cluster(name: &str, nodes: &[&str], cpus: f64) -> Cluster {
    let mut config = LabConfig::new(&format!("{name}-{}", process::id()), nodes);
    for node in &mut config.nodes {
        // Only here has a container limits of its own on every kernel.
        (node.cpus, node.cgroup) = (Some(cpus), Some(CgroupVersion::V1));
    }
    Cluster::up(config, &mut |line| eprintln!("{name}: {line}")).unwrap()
}

#[test]
fn a_container_at_its_limit_is_enlarged_before_anything_moves() {
    let cluster = cluster("resize", &["A", "B"], AMPLE);
    let run = ["docker", "run", "--detach", "--name", "hungry", "--cpus", "0.1", BUSYBOX, "sh", "-c", HUNGRY];
    cluster.node("A").run(&run).unwrap();
    cluster.wait_known("hungry", "A").unwrap();
    let enlarged = wait_until(DEADLINE, "the limit to grow", || {
        let limit = nano_cpus(&cluster, "A", "hungry");
        Ok((limit > 100_000_000).then_some(limit))
    });
    println!("hungry: from 0.1 cores to {:.2}", enlarged.unwrap() as f64 / 1e9);
    let decided = wait_until(DEADLINE, "the decision to be done", || {
        let decisions = cluster.ask(|client| async move { client.decisions(Some(100)).await })?.items;
        let resized = |decision: &Decision| decision.kind == Kind::Resize && decision.status == Status::Done;
        Ok(decisions.into_iter().rfind(resized))
    });
    let decided = decided.unwrap();
    println!("{}", decided.reason);
    assert_eq!((decided.workload.as_str(), decided.source.as_str()), ("hungry", "A"));
    assert_eq!(decided.limits.unwrap().from.cpus, Some(0.1));
    // Idle again, it gets back what it was created with, although Docker no longer knows that.
    cluster.node("A").run(&["docker", "exec", "hungry", "rm", "/busy"]).unwrap();
    let back = wait_until(DEADLINE, "the limit to go back", || {
        Ok((nano_cpus(&cluster, "A", "hungry") == 100_000_000).then_some(()))
    });
    back.unwrap();
    assert!(runs(cluster.node("A"), "hungry").unwrap());
    assert_eq!(migrations(&cluster), Vec::new(), "nothing has moved");
}

#[test]
fn a_hot_node_is_relieved_and_when_it_cools_down_nothing_comes_back() {
    let cluster = cluster("relief", &["A", "B", "C"], QUOTA);
    looper::run(cluster.node("A"), "looper", &[]).unwrap();
    cluster.wait_known("looper", "A").unwrap();
    cluster.lab().burn("A", 0.95).unwrap();
    let mut samples = Vec::new();
    let moved = wait_until(DEADLINE, "the looper to leave A", || {
        let node = node(&cluster, "A");
        if let Some(now) = node.utilization
            && samples.last().is_none_or(|(at, _)| *at != now.at)
        {
            samples.push((now.at, now.cpu));
        }
        Ok(migrations(&cluster).into_iter().next().filter(|migration| migration.phase.is_over()))
    });
    let moved = moved.unwrap();
    assert_eq!((moved.phase, moved.asked_by.as_str()), (Phase::Done, "policy"), "{:?}", moved.cause);
    // Sustained is the median of three samples, so two hot ones are needed; the third period is the planner's.
    let hot = samples.iter().filter(|(at, cpu)| *cpu >= 0.80 && *at <= moved.created_at).count();
    println!("decided after {hot} hot samples, moved to {}", moved.destination);
    assert!((2..=3).contains(&hot), "{hot} of {samples:?}");

    cluster.lab().stop_burn("A").unwrap();
    let cooled = wait_until(DEADLINE, "A to cool down", || Ok((sustained(&cluster, "A") < 0.3).then_some(())));
    cooled.unwrap();
    samples_pass(&cluster, "A", 10);
    assert_eq!(migrations(&cluster).len(), 1, "nothing moves back needlessly");
    assert!(runs(cluster.node(&moved.destination), "looper").unwrap());
    looper::check_consecutive(&looper::numbers(cluster.node(&moved.destination), "looper").unwrap()).unwrap();
}

#[test]
fn a_drain_empties_a_node_and_names_what_stays() {
    let cluster = cluster("drain", &["A", "B"], AMPLE);
    looper::run(cluster.node("A"), "web", &[]).unwrap();
    looper::run(cluster.node("A"), "fixed", &["--label", "fogshift.migrate=never"]).unwrap();
    cluster.wait_known("web", "A").unwrap();
    cluster.wait_known("fixed", "A").unwrap();
    let drained = fogctl(&cluster, &["drain", "A", "--deadline", "100s"]);
    let said = String::from_utf8_lossy(&drained.stderr).into_owned();
    println!("{said}");
    assert_eq!(drained.status.code(), Some(1), "{said}");
    assert!(said.contains("web has left A") && said.contains("fixed stays"), "{said}");
    assert!(said.contains("pinned"), "it says why: {said}");
    assert!(runs(cluster.node("B"), "web").unwrap() && state(cluster.node("A"), "web").unwrap().is_none());
    cluster.node("A").run(&["docker", "rm", "--force", "fixed"]).unwrap();
    let gone = wait_until(DEADLINE, "the orchestrator to see that it is gone", || {
        Ok(cluster.ask(|client| async move { client.workloads(Some("A")).await })?.items.is_empty().then_some(()))
    });
    gone.unwrap();
    let drained = fogctl(&cluster, &["drain", "A", "--deadline", "100s"]);
    assert_eq!(drained.status.code(), Some(0), "{}", String::from_utf8_lossy(&drained.stderr));
    assert!(String::from_utf8_lossy(&drained.stdout).contains("A is empty and cordoned"));
    for name in ["A", "B"] {
        assert_eq!(leftovers(cluster.node(name)).unwrap(), Vec::<String>::new());
    }
}
