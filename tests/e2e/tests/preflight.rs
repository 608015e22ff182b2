//! Every refusal of the preflight, with a real container that deserves it.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::process;

use fog_api::migration::{MigrationRequest, Strategy};
use fog_api::preflight::{Preflight, Weight};
use fog_e2e::cluster::Cluster;
use fog_e2e::workloads;
use fog_lab::images::BUSYBOX;
use fog_lab::{CgroupVersion, LabConfig, Node, Suite, wait_until};

const SLEEP: [&str; 3] = ["sh", "-c", "while true; do sleep 1; done"];

fn preflight(cluster: &Cluster, workload: &str, to: &str) -> Preflight {
    let found = cluster.ask(|client| async move { client.preflight(workload, to).await }).unwrap();
    eprintln!("{workload} → {to}: {} in {:.0} ms", if found.possible { "possible" } else { "refused" }, found.took_ms);
    for finding in &found.findings {
        eprintln!("    {} {}: {}", finding.weight, finding.check, finding.message);
    }
    assert_eq!(found.possible, found.findings.iter().all(|finding| finding.weight != Weight::Blocker));
    found
}

fn checks(found: &Preflight, weight: Weight) -> BTreeSet<&str> {
    found.findings.iter().filter(|finding| finding.weight == weight).map(|finding| finding.check.as_str()).collect()
}

fn blockers(cluster: &Cluster, workload: &str, to: &str) -> BTreeSet<String> {
    checks(&preflight(cluster, workload, to), Weight::Blocker).into_iter().map(str::to_owned).collect()
}

fn expect(cluster: &Cluster, workload: &str, to: &str, wanted: &[&str]) {
    let found = blockers(cluster, workload, to);
    for check in wanted {
        assert!(found.contains(*check), "{workload} → {to}: {check} is missing in {found:?}");
    }
}

/// Starts a container on A with these options of `docker run`.
fn run(node: &Node, name: &str, options: &[&str]) {
    node.run(&[&["docker", "run", "--detach", "--name", name][..], options, &[BUSYBOX], &SLEEP[..]].concat()).unwrap();
}

/// Python that opens something and waits.
fn run_python(node: &Node, name: &str, options: &[&str], program: &str) {
    let program = format!("{program}\nimport time\nprint('ready', flush=True)\nwhile True: time.sleep(1)");
    let command = ["python3", "-c", &program];
    node.run(&[&["docker", "run", "--detach", "--name", name][..], options, &[workloads::PYTHON], &command].concat())
        .unwrap();
    let ready = wait_until(fog_e2e::cluster::DEADLINE, &format!("{name} to be ready"), || {
        Ok(node.run(&["docker", "logs", name])?.contains("ready").then_some(()))
    });
    ready.unwrap_or_else(|error| panic!("{error}: {:?}", node.exec(&["docker", "logs", name])));
}

#[test]
fn every_refusal_is_deserved_and_comes_before_anything_is_touched() {
    let config = LabConfig::new(&format!("preflight-{}", process::id()), &["A", "B"])
        .each_node(|node| (node.suite, node.cgroup) = (Suite::Forky, Some(CgroupVersion::V1)))
        .node("C", |node| (node.suite, node.cgroup) = (Suite::Trixie, Some(CgroupVersion::V2)));
    let cluster = Cluster::up(config, &mut |line| eprintln!("preflight: {line}")).unwrap();
    workloads::load(cluster.lab().nodes(), &workloads::python().unwrap()).unwrap();
    let (a, b) = (cluster.node("A"), cluster.node("B"));

    a.write_file(
        "/etc/cdi/fog.json",
        r#"{"cdiVersion": "0.5.0", "kind": "fog.test/gpu", "containerEdits": {},
            "devices": [{"name": "zero", "containerEdits": {"env": ["GPU=0"]}}]}"#,
    )
    .unwrap();
    a.run(&["docker", "network", "create", "only-here"]).unwrap();
    let of_the_source: &[(&str, &[&str], &[&str])] = &[
        ("plain", &[], &[]),
        ("terminal", &["--tty"], &["tty"]),
        ("talker", &["--interactive"], &["stdin"]),
        ("parent", &["--init"], &["init"]),
        ("mighty", &["--privileged"], &["privileged"]),
        ("hosted", &["--network", "host", "--pid", "host", "--ipc", "host", "--uts", "host"], &["host-namespaces"]),
        ("device", &["--device", "/dev/full:/dev/mine"], &["devices"]),
        ("graphics", &["--device", "fog.test/gpu=zero"], &["gpu"]),
        ("bound", &["--volume", "/etc:/host"], &["mounts"]),
        ("sharer", &["--volume", "shared:/data"], &["volumes"]),
        ("sharing", &["--volume", "shared:/data"], &["volumes"]),
        ("alone", &["--network", "only-here"], &["network"]),
        ("worker", &[], &["exec"]),
        ("stopped", &[], &["stopped-processes"]),
        ("paused", &[], &["state", "not-running"]),
        ("all-at-once", &["--tty", "--privileged", "--volume", "/etc:/host"], &["tty", "privileged", "mounts"]),
        ("named", &[], &["name"]),
        ("published", &["--publish", "8080:80"], &["port"]),
        ("publishing", &["--publish", "8081:80"], &["port"]),
        ("voluminous", &["--volume", "theirs:/data"], &["volumes"]),
    ];
    for (name, options, _) in of_the_source {
        run(a, name, options);
    }
    a.run(&["docker", "exec", "--detach", "worker", "sleep", "100000"]).unwrap();
    a.run(&["docker", "exec", "--detach", "stopped", "true"]).unwrap();
    a.run(&["docker", "exec", "stopped", "sh", "-c", "(while true; do sleep 100000; done) & kill -STOP $!"]).unwrap();
    a.run(&["docker", "pause", "paused"]).unwrap();
    b.run(&["docker", "create", "--name", "named", BUSYBOX]).unwrap();
    b.run(&["docker", "run", "--detach", "--name", "holder", "--publish", "8080:80", BUSYBOX, "sleep", "100000"])
        .unwrap();
    b.run(&["sh", "-c", "busybox nc -l -p 8081 >/dev/null 2>&1 &"]).unwrap();
    b.run(&["docker", "volume", "create", "theirs"]).unwrap();
    run_python(a, "alg", &["--security-opt", "seccomp=unconfined"], ODD_SOCKET);
    run_python(a, "uring", &["--security-opt", "seccomp=unconfined"], IO_URING);
    run_python(a, "listener", &[], "import socket; s = socket.create_server(('', 80))");
    for name in of_the_source.iter().map(|(name, ..)| *name).chain(["alg", "uring", "listener"]) {
        known(&cluster, name);
    }

    for (name, _, wanted) in of_the_source {
        expect(&cluster, name, "B", wanted);
    }
    assert_eq!(blockers(&cluster, "plain", "B"), BTreeSet::new());
    expect(&cluster, "alg", "B", &["sockets"]);
    expect(&cluster, "uring", "B", &["files"]);
    assert_eq!(blockers(&cluster, "listener", "B"), BTreeSet::new());

    // Of the two nodes: C has another cgroup layout, an older CRIU, and a runc with a known hole.
    let to_c = preflight(&cluster, "plain", "C");
    assert!(checks(&to_c, Weight::Blocker).is_superset(&BTreeSet::from(["cgroup-layout", "older-criu"])));
    assert!(checks(&to_c, Weight::Warning).contains("runc"));

    // CRIU 4.1 cannot dump sockets on this kernel; where the kernel is older it can.
    let c = cluster.node("C");
    run_python(c, "old-listener", &[], "import socket; s = socket.create_server(('', 80))");
    known(&cluster, "old-listener");
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = kernel.split(['.', '-']).map(|number| number.parse::<u32>().unwrap_or(0));
    let new = (numbers.next().unwrap(), numbers.next().unwrap()) >= (6, 16);
    assert_eq!(blockers(&cluster, "old-listener", "B").contains("sockets"), new, "kernel {kernel}");

    // A migration refuses with the same words, and before anything was touched.
    let request = MigrationRequest { workload: "alg".into(), destination: Some("B".into()), strategy: Strategy::Auto };
    let begun = cluster.ask(|client| async move { client.migrate(&request).await }).unwrap();
    let cause = cluster.over(begun.id).unwrap().cause.unwrap();
    let words = preflight(&cluster, "alg", "B").findings.into_iter().find(|found| found.check == "sockets").unwrap();
    assert!(cause.message.contains(&words.message), "{cause:?}");

    // fogctl says it too, with its exit status.
    let fogctl = |arguments: &[&str]| cluster.fogctl().unwrap().arg("preflight").args(arguments).output().unwrap();
    let refused = fogctl(&["all-at-once", "--to", "B"]);
    eprintln!("{}", String::from_utf8_lossy(&refused.stdout));
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stdout).contains("not possible"));
    assert_eq!(fogctl(&["plain", "--to", "B"]).status.code(), Some(0));
    let json = fogctl(&["plain", "--to", "B", "--output", "json"]);
    assert!(serde_json::from_slice::<Preflight>(&json.stdout).unwrap().possible);
    assert_eq!(fogctl(&["nobody", "--to", "B"]).status.code(), Some(1));

    // What B lacks: memory for the images, and an instruction set.
    b.run(&["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/run/fogshift/images"]).unwrap();
    expect(&cluster, "plain", "B", &["memory"]);
    b.run(&["umount", "/run/fogshift/images"]).unwrap();
    let features = cluster.ask(|client| async move { client.node("A").await }).unwrap().facts.cpu_features;
    if let Some(lacking) = features.last() {
        let cut = format!(
            "sed 's/\\b{lacking}\\b//g' /proc/cpuinfo > /run/cpuinfo && mount --bind /run/cpuinfo /proc/cpuinfo"
        );
        b.run(&["sh", "-c", &cut]).unwrap();
        cluster.lab().kill_agent("B").unwrap();
        cluster.lab().start_agent("B").unwrap();
        let told = wait_until(fog_e2e::cluster::DEADLINE, "B to say what it lacks", || {
            let node = cluster.ask(|client| async move { client.node("B").await })?;
            Ok((node.connected && !node.facts.cpu_features.contains(lacking)).then_some(()))
        });
        told.unwrap();
        expect(&cluster, "plain", "B", &["cpu-features"]);
        b.run(&["umount", "/proc/cpuinfo"]).unwrap();
    }
}

fn known(cluster: &Cluster, name: &str) {
    let known = wait_until(fog_e2e::cluster::DEADLINE, &format!("{name} to be known"), || {
        Ok(cluster.ask(|client| async move { client.workload(name).await }).ok())
    });
    known.unwrap();
}

/// A socket of a family that CRIU does not know: the first that this kernel has.
const ODD_SOCKET: &str = "
import socket
for family, kind, protocol in [(38, 5, 0), (40, 1, 0), (2, 1, 262), (2, 1, 132), (29, 3, 1), (44, 3, 0)]:
    try:
        kept = socket.socket(family, kind, protocol)
        print(family, protocol, flush=True)
        break
    except OSError as error:
        print(family, error, flush=True)
";

const IO_URING: &str = "
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
parameters = ctypes.create_string_buffer(120)
ring = libc.syscall(425, 4, parameters)
assert ring >= 0, ctypes.get_errno()
";
