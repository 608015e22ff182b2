//! A → B → A on every Docker and cgroup layout we promise: nothing lost, nothing doubled, nothing left behind.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::process;

use fog_e2e::cluster::{Cluster, DEADLINE, leftovers, state};
use fog_e2e::looper;
use fog_lab::{CgroupVersion, LabConfig, Suite, wait_until};

fn count_on(cluster: &Cluster, node: &str, than: usize) -> Vec<u64> {
    let numbers = wait_until(DEADLINE, "the looper to count on", || {
        Ok(Some(looper::numbers(cluster.node(node), "looper")?).filter(|numbers| numbers.len() >= than + 2))
    });
    let numbers = numbers.unwrap();
    looper::check_consecutive(&numbers).unwrap();
    numbers
}

fn there_and_back(suite: Suite, cgroup: CgroupVersion) {
    let mut config = LabConfig::new(&format!("tab-{suite}-{cgroup}-{}", process::id()), &["A", "B"]);
    for node in &mut config.nodes {
        (node.suite, node.cgroup) = (suite, Some(cgroup));
    }
    let cluster = Cluster::up(config, &mut |line| eprintln!("{suite} {cgroup}: {line}")).unwrap();
    let options =
        ["--restart", "unless-stopped", "--env", "GREETING=hello", "--label", "team=fog", "--hostname", "loop"];
    looper::run(cluster.node("A"), "looper", &options).unwrap();
    cluster.wait_known("looper", "A").unwrap();
    let mut counted = count_on(&cluster, "A", 0).len();

    for (from, to) in [("A", "B"), ("B", "A")] {
        let migration = cluster.migrate("looper", to).unwrap();
        eprintln!("{suite} {cgroup}: {from} → {to}: {:?} ms frozen, {:?}", migration.downtime_ms, migration.stages_ms);
        assert!(migration.downtime_ms.is_some_and(|ms| ms > 0.0));
        assert!(migration.checkpoint_bytes.is_some() && migration.sent_bytes.is_some());
        counted = count_on(&cluster, to, counted).len();
        assert_eq!(state(cluster.node(from), "looper").unwrap(), None, "the source still has the container");
        for node in [from, to] {
            assert_eq!(leftovers(cluster.node(node)).unwrap(), Vec::<String>::new(), "left behind on {node}");
        }
        cluster.wait_known("looper", to).unwrap();
    }

    // On the destination it is a container like any other.
    let a = cluster.node("A");
    assert_eq!(a.run(&["docker", "ps", "--format", "{{.Names}}"]).unwrap(), "looper");
    assert_eq!(a.run(&["docker", "exec", "looper", "sh", "-c", "echo $GREETING; hostname"]).unwrap(), "hello\nloop");
    let kept = "{{.HostConfig.RestartPolicy.Name}} {{.Config.Labels.team}}";
    assert_eq!(a.run(&["docker", "inspect", "--format", kept, "looper"]).unwrap(), "unless-stopped fog");
    a.run(&["docker", "stop", "--time", "1", "looper"]).unwrap();
    assert_eq!(state(a, "looper").unwrap().as_deref(), Some("exited"));
    // Started again it begins anew: it is created by runc, not restored.
    a.run(&["docker", "start", "looper"]).unwrap();
    let begun_anew = wait_until(DEADLINE, "the restarted looper to print 0 again", || {
        let numbers = looper::numbers(a, "looper")?;
        Ok((numbers.iter().filter(|number| **number == 0).count() == 2).then_some(()))
    });
    begun_anew.unwrap();
}

#[test]
fn docker_26_cgroup_v1() {
    there_and_back(Suite::Trixie, CgroupVersion::V1);
}

#[test]
fn docker_26_cgroup_v2() {
    there_and_back(Suite::Trixie, CgroupVersion::V2);
}

#[test]
fn docker_28_cgroup_v1() {
    there_and_back(Suite::Forky, CgroupVersion::V1);
}

#[test]
fn docker_28_cgroup_v2() {
    there_and_back(Suite::Forky, CgroupVersion::V2);
}
