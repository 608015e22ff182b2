//! One container that uses everything docker run can say: afterwards docker inspect differs only in what must, and the
//! kernel agrees from inside.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::process;

use fog_e2e::cluster::{Cluster, DEADLINE};
use fog_lab::images::BUSYBOX;
use fog_lab::{CgroupVersion, LabConfig, Node, Suite, wait_until};
use serde_json::Value;

const NAME: &str = "everything";

const OPTIONS: &[&str] = &[
    "--env=GREETING=hello world",
    "--env=EMPTY=",
    "--label=team=fog",
    "--label=quoted=a \"b\" 'c'",
    "--hostname=host-of-its-own",
    "--domainname=example.org",
    "--group-add=55",
    "--workdir=/srv/work",
    "--ulimit=nofile=1234:2345",
    "--ulimit=core=0",
    "--cap-add=SYS_NICE",
    "--cap-drop=MKNOD",
    "--security-opt=no-new-privileges",
    "--security-opt=seccomp=/root/seccomp.json",
    "--health-cmd=true",
    "--health-interval=1s",
    "--health-retries=7",
    "--log-opt=max-size=3m",
    "--log-opt=tag=fog",
    "--publish=9090:90",
    "--publish=9091:91/udp",
    "--expose=92",
    "--network=shop",
    "--network-alias=web",
    "--network-alias=shopfront",
    "--ip=10.77.0.9",
    "--sysctl=net.ipv4.ip_unprivileged_port_start=7",
    "--sysctl=kernel.msgmax=10000",
    "--tmpfs=/scratch:rw,size=1m,mode=1777",
    "--mount=type=tmpfs,destination=/other,tmpfs-size=2m,tmpfs-mode=1777",
    "--shm-size=9m",
    "--add-host=db:10.0.0.1",
    "--dns=9.9.9.9",
    "--dns-search=example.org",
    "--dns-option=ndots:2",
    "--stop-signal=USR1",
    "--stop-timeout=7",
    "--restart=on-failure:3",
    "--memory=64m",
    "--memory-reservation=32m",
    "--cpus=0.5",
    "--cpu-shares=512",
    "--pids-limit=100",
    "--oom-score-adj=100",
    "--annotation=org.example=kept",
    "--volume=data-of-its-own:/data:ro",
    "--volume=/anonymous",
    "--device-cgroup-rule=c 1:3 rw",
    "--ipc=private",
    "--cgroupns=private",
    "--entrypoint=/bin/sh",
];

const COMMAND: [&str; 2] = [
    "-c",
    "echo kept > /scratch/file; echo kept > /other/file; echo kept > /dev/shm/file; while true; do sleep 1; done",
];

/// What the kernel says, inside.
const INSIDE: &str = "
id; pwd; hostname; ulimit -n -H; ulimit -n; ulimit -c; cat /proc/1/comm /proc/1/oom_score_adj
grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/1/status
cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax /etc/resolv.conf
grep -v 'host-of-its-own' /etc/hosts; grep host-of-its-own /etc/hosts
df -k /dev/shm /scratch /other | awk '{print $2, $6}'; cat /scratch/file /other/file /dev/shm/file
stat -c '%a %u' /scratch /other; touch /data/x 2>&1
tr '\\0' '\\n' < /proc/1/environ | sort
ip address show eth0 | grep inet
";

/// By place in the document; these belong to a place or to a start.
const MUST_DIFFER: &[&str] = &[
    "/Id",
    "/Created",
    "/State/Pid",
    "/State/StartedAt",
    "/State/Health",
    "/ResolvConfPath",
    "/HostnamePath",
    "/HostsPath",
    "/LogPath",
    "/GraphDriver",
    "/Storage",
    "/Image", // checked by name
    "/HostConfig/Runtime",
    "/HostConfig/Annotations/io.fogshift.migration",
    "/NetworkSettings/SandboxID",
    "/NetworkSettings/SandboxKey",
    "/NetworkSettings/Networks/shop/NetworkID",
    "/NetworkSettings/Networks/shop/EndpointID",
    "/NetworkSettings/Networks/shop/MacAddress",
    "/NetworkSettings/Networks/shop/DNSNames",
    "/NetworkSettings/Networks/shop/Aliases",
];

fn flatten(place: String, value: &Value, found: &mut BTreeMap<String, Value>) {
    if MUST_DIFFER.contains(&place.as_str()) {
        return;
    }
    match value {
        // In no order; an anonymous volume has another name everywhere.
        Value::Array(mounts) if place == "/Mounts" => mounts.iter().for_each(|mount| {
            let mut mount = mount.clone();
            let at = mount["Destination"].as_str().unwrap().to_owned();
            if at == "/anonymous" {
                (mount["Name"], mount["Source"]) = (Value::Null, Value::Null);
            }
            flatten(format!("{place}{at}"), &mount, found);
        }),
        Value::Object(fields) => {
            fields.iter().for_each(|(name, inner)| flatten(format!("{place}/{name}"), inner, found));
        }
        Value::Null => {}
        Value::Array(items) if items.is_empty() => {}
        other => drop(found.insert(place, other.clone())),
    }
}

fn inspect(node: &Node) -> BTreeMap<String, Value> {
    let text = node.run(&["docker", "inspect", NAME]).unwrap();
    let mut found = BTreeMap::new();
    flatten(String::new(), &serde_json::from_str::<Value>(&text).unwrap()[0], &mut found);
    found
}

fn has_sys_resource() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(held.trim(), 16).unwrap() & (1 << 24) != 0
}

fn inside(node: &Node) -> String {
    node.run(&["docker", "exec", NAME, "sh", "-c", INSIDE]).unwrap()
}

fn everything(suite: Suite, options: serde_json::Map<String, Value>) {
    let mut config = LabConfig::new(&format!("conf-{suite}-{}-{}", options.len(), process::id()), &["A", "B"])
        .each_node(|node| (node.suite, node.cgroup) = (suite, Some(CgroupVersion::V1)));
    config.docker_options = options;
    let cluster = Cluster::up(config, &mut |line| eprintln!("{suite}: {line}")).unwrap();
    for node in cluster.lab().nodes() {
        node.run(&["docker", "network", "create", "--subnet", "10.77.0.0/24", "shop"]).unwrap();
        node.write_file("/root/seccomp.json", r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#).unwrap();
    }
    let (a, b) = (cluster.node("A"), cluster.node("B"));
    // CRIU reads the limits of another user's process only with CAP_SYS_RESOURCE, which not every machine's root has.
    let user: &[&str] = if has_sys_resource() { &["--user=1234:44"] } else { &[] };
    a.run(&[&["docker", "run", "--detach", "--name", NAME][..], user, OPTIONS, &[BUSYBOX], &COMMAND[..]].concat())
        .unwrap();
    cluster.wait_known(NAME, "A").unwrap();
    let (before, outside) = (inside(a), inspect(a));
    eprintln!("{before}");
    let migration = cluster.migrate(NAME, "B").unwrap();
    eprintln!("{suite}: {:?}", migration.connections);

    let after = inspect(b);
    let mut different = Vec::new();
    for place in outside.keys().chain(after.keys()).collect::<std::collections::BTreeSet<_>>() {
        if outside.get(place) != after.get(place) {
            different.push(format!("{place}: {:?} → {:?}", outside.get(place), after.get(place)));
        }
    }
    assert!(different.is_empty(), "docker inspect differs in\n{}", different.join("\n"));
    assert_eq!(inside(b), before);
    let aliases =
        b.run(&["docker", "inspect", "--format", "{{.NetworkSettings.Networks.shop.Aliases}}", NAME]).unwrap();
    assert!(aliases.contains("web") && aliases.contains("shopfront"), "{aliases}");
    let healthy = wait_until(DEADLINE, "the health check to go on", || {
        Ok((b.run(&["docker", "inspect", "--format", "{{.State.Health.Status}}", NAME])? == "healthy").then_some(()))
    });
    healthy.unwrap();
    assert_eq!(a.run(&["docker", "ps", "--all", "--quiet"]).unwrap(), "");
}

#[test]
fn docker_26() {
    everything(Suite::Trixie, serde_json::Map::new());
}

#[test]
fn docker_28() {
    everything(Suite::Forky, serde_json::Map::new());
}

/// The image store of Docker 29's default.
#[test]
fn docker_28_with_containerds_images() {
    let options = serde_json::json!({"features": {"containerd-snapshotter": true}});
    everything(Suite::Forky, options.as_object().unwrap().clone());
}
