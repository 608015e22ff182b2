//! Everything a program can hold that the kernel keeps for it: it checks itself after every move.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::process;
use std::time::Duration;

use fog_e2e::cluster::{Cluster, DEADLINE};
use fog_e2e::workloads;
use fog_lab::{CgroupVersion, LabConfig, Node, Suite, wait_until};

/// Makes one of each, then tries each of them on SIGUSR1 and says what it saw.
const PROGRAM: &str = include_str!("resources.py");

/// Leaves a process behind that has nothing of the session but its id, and prints the process's number.
const LEFT: &str = "
import os, signal
child = os.fork()
if child == 0:
    for number in range(3):
        os.dup2(os.open('/dev/null', os.O_RDWR), number)
    while True:
        signal.pause()
print(child)
";

/// What is said only once: `ok` for each kind.
const KINDS: [&str; 18] = [
    "thread",
    "child",
    "pipe",
    "unix-stream",
    "unix-datagram",
    "epoll",
    "eventfd",
    "signalfd",
    "timerfd",
    "shared-memory",
    "deleted-file",
    "file-lock",
    "timer",
    "clocks",
    "system-v-memory",
    "named-memory",
    "inotify",
    "sleep-goes-on",
];

fn check(node: &Node, round: usize) -> Vec<String> {
    node.run(&["docker", "kill", "--signal", "USR1", "holder"]).unwrap();
    let mark = format!("round {round} over");
    let log = wait_until(DEADLINE, "the holder to have tried everything", || {
        Ok(Some(node.run(&["docker", "logs", "holder"])?).filter(|log| log.contains(&mark)))
    });
    let log = log.unwrap();
    let said = log.lines().skip_while(|line| *line != format!("round {round}")).map(str::to_owned);
    let said: Vec<String> = said.collect();
    eprintln!("{} on {}: {}", round, node.name(), said.join(" | "));
    said
}

fn resources(suite: Suite) {
    let config = LabConfig::new(&format!("kinds-{suite}-{}", process::id()), &["A", "B"])
        .each_node(|node| (node.suite, node.cgroup) = (suite, Some(CgroupVersion::V2)))
        .node("B", |node| node.booted_earlier = Duration::from_secs(3600));
    let cluster = Cluster::up(config, &mut |line| eprintln!("{suite}: {line}")).unwrap();
    workloads::load(cluster.lab().nodes(), &workloads::python().unwrap()).unwrap();
    let a = cluster.node("A");
    a.run(&["docker", "run", "--detach", "--name", "holder", workloads::PYTHON, "python3", "-c", PROGRAM]).unwrap();
    // What `docker exec` has left behind belongs to the container, once the session itself is over.
    let left = a.run(&["docker", "exec", "holder", "python3", "-c", LEFT]).unwrap();
    cluster.wait_known("holder", "A").unwrap();
    for (round, (node, to)) in [("A", Some("B")), ("B", Some("A")), ("A", None)].into_iter().enumerate() {
        let said = check(cluster.node(node), round);
        for kind in KINDS {
            assert!(
                said.iter().any(|line| line == &format!("{kind} ok")),
                "{kind} on {node} in round {round}: {said:#?}"
            );
        }
        let look = format!("print(open('/proc/{left}/status').read())");
        let status = cluster.node(node).run(&["docker", "exec", "holder", "python3", "-c", &look]).unwrap();
        assert!(status.contains("State:\tS") && status.contains("PPid:\t1\n"), "{left} on {node}: {status}");
        if let Some(to) = to {
            let migration = cluster.migrate("holder", to).unwrap();
            eprintln!("{suite}: {node} → {to}: {:?} ms", migration.downtime_ms);
            cluster.wait_known("holder", to).unwrap();
        }
    }
}

#[test]
fn docker_26_keeps_every_kind() {
    resources(Suite::Trixie);
}

#[test]
fn docker_28_keeps_every_kind() {
    resources(Suite::Forky);
}
