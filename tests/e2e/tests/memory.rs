//! Every strategy moves memory whole, and no fault makes a container run on with less.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::process;

use fog_api::migration::{Keep, Migration, Phase, ResolveRequest, Strategy};
use fog_e2e::cluster::{Cluster, DEADLINE, leftovers, runs, state};
use fog_e2e::{looper, pages};
use fog_lab::{CgroupVersion, LabConfig, Suite, wait_until};

const MIB: u32 = 48;
const STRATEGIES: [Strategy; 4] = [Strategy::StopAndCopy, Strategy::PreCopy, Strategy::PostCopy, Strategy::Hybrid];

fn cluster(name: &str, suite: Suite, cgroup: CgroupVersion) -> Cluster {
    let mut config = LabConfig::new(&format!("{name}-{}", process::id()), &["A", "B"]);
    for node in &mut config.nodes {
        (node.suite, node.cgroup) = (suite, Some(cgroup));
    }
    let cluster = Cluster::up(config, &mut |line| eprintln!("{name}: {line}")).unwrap();
    cluster.lab().load_image(&pages::image().unwrap()).unwrap();
    cluster
}

fn clean(cluster: &Cluster) {
    let clean = wait_until(DEADLINE, "both nodes to be clean", || {
        let left = [leftovers(cluster.node("A"))?, leftovers(cluster.node("B"))?].concat();
        Ok(left.is_empty().then_some(()))
    });
    clean.unwrap_or_else(|error| {
        panic!("{error}: {:?}", [leftovers(cluster.node("A")).unwrap(), leftovers(cluster.node("B")).unwrap()])
    });
}

fn finished(cluster: &Cluster, id: uuid::Uuid) -> Migration {
    let migration = cluster.over(id).unwrap();
    assert_eq!(migration.phase, Phase::Done, "{:?}", migration.cause);
    migration
}

/// What was just started may be known before it is stored as owned: the move is a conflict until then.
fn begun(cluster: &Cluster, name: &str, to: &str, strategy: Strategy) -> uuid::Uuid {
    let begun = wait_until(DEADLINE, "the move to be taken", || match cluster.begin_by(name, to, strategy) {
        Err(error) if format!("{error:#}").contains("changed its owner") => Ok(None),
        other => other.map(|migration| Some(migration.id)),
    });
    begun.unwrap()
}

/// There and back with each strategy: memory that changes all the while is right, a forking shell counts without a gap.
fn there_and_back(suite: Suite, cgroup: CgroupVersion) {
    let cluster = cluster(&format!("mem-{suite}-{cgroup}"), suite, cgroup);
    pages::run(cluster.node("A"), "pages", MIB, 8).unwrap();
    looper::run(cluster.node("A"), "looper", &["--label", "fogshift.post-copy=allowed"]).unwrap();
    for strategy in STRATEGIES {
        for (from, to) in [("A", "B"), ("B", "A")] {
            for name in ["pages", "looper"] {
                cluster.wait_known(name, from).unwrap();
                let migration = finished(&cluster, begun(&cluster, name, to, strategy));
                eprintln!(
                    "{suite} {cgroup} {name} {strategy}: {:?} ms frozen, {:?}, {:?}",
                    migration.downtime_ms, migration.stages_ms, migration.memory
                );
                assert_eq!(migration.strategy, strategy);
                assert_eq!(state(cluster.node(from), name).unwrap(), None, "the source still has the container");
                // With stop-and-copy memory is part of CRIU's images.
                assert_eq!(migration.memory.is_none(), strategy == Strategy::StopAndCopy);
                if let Some(memory) = migration.memory {
                    assert!(memory.frozen_total_bytes > 0);
                    assert_eq!(memory.rounds.is_empty(), strategy == Strategy::PostCopy);
                }
            }
            pages::checks_on(cluster.node(to), "pages").unwrap();
            looper::check_consecutive(&looper::numbers(cluster.node(to), "looper").unwrap()).unwrap();
            clean(&cluster);
        }
    }
    much(&cluster);
}

/// Stop-and-copy of much memory does not write it into images first.
fn much(cluster: &Cluster) {
    pages::run(cluster.node("A"), "much", 96, 8).unwrap();
    cluster.wait_known("much", "A").unwrap();
    let migration = finished(cluster, begun(cluster, "much", "B", Strategy::StopAndCopy));
    let memory = migration.memory.unwrap();
    assert!(memory.rounds.is_empty() && memory.frozen_total_bytes >= 96 << 20, "{memory:?}");
    assert!(migration.checkpoint_bytes.unwrap() < 16 << 20, "{:?}", migration.checkpoint_bytes);
    pages::checks_on(cluster.node("B"), "much").unwrap();
    clean(cluster);
}

#[test]
fn every_strategy_on_docker_28() {
    there_and_back(Suite::Forky, CgroupVersion::V2);
}

#[test]
fn every_strategy_on_docker_26() {
    there_and_back(Suite::Trixie, CgroupVersion::V1);
}

/// A slow link, so that most of the memory is still on its way when the workload already runs on B.
fn run_ahead(cluster: &Cluster) -> Migration {
    cluster.wait_active().unwrap();
    cluster.wait_known("pages", "A").unwrap();
    cluster.node("A").limit_rate(Some("40mbit")).unwrap();
    let id = begun(cluster, "pages", "B", Strategy::PostCopy);
    let ahead = cluster.wait_migration(id, "the workload to run on B", |m| m.phase == Phase::Discarding);
    let migration = ahead.unwrap();
    assert_eq!(state(cluster.node("A"), "pages").unwrap().as_deref(), Some("paused"), "the source keeps its copy");
    migration
}

#[test]
fn a_workload_that_runs_ahead_of_its_memory_gets_all_of_it_or_ends() {
    let cluster = cluster("ahead", Suite::Forky, CgroupVersion::V2);
    let (a, b) = (cluster.node("A"), cluster.node("B"));
    pages::run(a, "pages", MIB, 0).unwrap();

    let back = || {
        a.limit_rate(None).unwrap();
        pages::checks_on(b, "pages").unwrap();
        clean(&cluster);
        cluster.wait_known("pages", "B").unwrap();
        finished(&cluster, begun(&cluster, "pages", "A", Strategy::StopAndCopy));
        pages::checks_on(a, "pages").unwrap();
    };

    eprintln!("== the link is cut and comes back");
    let migration = run_ahead(&cluster);
    cluster.lab().cut_between("A", "B").unwrap();
    cluster.lab().heal_between("A", "B").unwrap();
    finished(&cluster, migration.id);
    back();

    eprintln!("== the source's agent is killed: another one goes on sending");
    let migration = run_ahead(&cluster);
    cluster.lab().kill_agent("A").unwrap();
    cluster.lab().start_agent("A").unwrap();
    a.limit_rate(None).unwrap();
    finished(&cluster, migration.id);
    back();

    eprintln!("== the orchestrator is killed");
    let migration = run_ahead(&cluster);
    cluster.lab().kill_orchestrator().unwrap();
    cluster.lab().start_orchestrator().unwrap();
    finished(&cluster, migration.id);
    back();

    eprintln!("== cancelling comes too late, and changes nothing");
    let migration = run_ahead(&cluster);
    let id = migration.id;
    assert!(cluster.ask(|client| async move { client.cancel(id).await }).is_err());
    finished(&cluster, id);
    back();

    for keep in [Keep::Source, Keep::Destination] {
        lost_and_resolved(&cluster, keep);
    }
}

fn lost_and_resolved(cluster: &Cluster, keep: Keep) {
    let (a, b) = (cluster.node("A"), cluster.node("B"));
    eprintln!(
        "== the destination's agent is killed: the workload ends and never sees a zero in a page's place; {keep} keeps it"
    );
    let migration = run_ahead(cluster);
    cluster.lab().kill_agent("B").unwrap();
    let ended = wait_until(DEADLINE, "the workload to end on B", || Ok((!runs(b, "pages")?).then_some(())));
    ended.unwrap();
    cluster.lab().start_agent("B").unwrap();
    a.limit_rate(None).unwrap();
    let lost = cluster.over(migration.id).unwrap();
    assert_eq!(lost.phase, Phase::Failed);
    let cause = lost.cause.unwrap();
    eprintln!("{cause:?}");
    assert!(cause.message.contains("fogctl migration resolve"), "{cause:?}");
    assert!(lost.frozen_at.is_some_and(|at| at > lost.created_at), "the last consistent state: {:?}", lost.frozen_at);
    pages::passes(b, "pages").unwrap();
    // The frozen copy is what is left, whole.
    assert_eq!(state(a, "pages").unwrap().as_deref(), Some("paused"));
    let word = ResolveRequest { keep, destination_is_gone: false };
    cluster.ask(|client| async move { client.resolve(lost.id, &word, false).await }).unwrap();
    let over = cluster.over(migration.id).unwrap();
    eprintln!("{} {:?}", over.phase, over.resolution);
    let (here, gone, phase) = match keep {
        Keep::Source => (a, b, Phase::RolledBack),
        Keep::Destination => (b, a, Phase::Done),
    };
    assert_eq!(over.phase, phase, "{over:?}");
    assert!(runs(here, "pages").unwrap());
    assert_eq!(state(gone, "pages").unwrap(), None);
    pages::checks_on(here, "pages").unwrap();
    clean(cluster);
}
