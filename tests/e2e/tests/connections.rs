//! TCP connections: they go on where the address follows the container, and end at once where it does not.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::process;

use fog_api::migration::Phase;
use fog_e2e::cluster::{Cluster, leftovers, state};
use fog_e2e::one_connection::{self, Client};
use fog_e2e::workloads;
use fog_lab::{LabConfig, Node, Suite};

/// The network on which an address follows: every node's own link.
const LAN: &str = "lan";

fn cluster() -> Cluster {
    // CRIU 4.1 cannot dump a listening socket on kernels from 6.13 on, so this runs on CRIU 4.2.
    let config =
        LabConfig::new(&format!("connect-{}", process::id()), &["A", "B"]).each_node(|node| node.suite = Suite::Forky);
    let cluster = Cluster::up(config, &mut |line| eprintln!("connections: {line}")).unwrap();
    let subnet = subnet(cluster.node("A"));
    for node in cluster.lab().nodes() {
        let (range, gateway) = (format!("{subnet}.0/24"), format!("{subnet}.1"));
        let create = ["docker", "network", "create", "--driver", "macvlan", "--opt", "parent=eth0"];
        node.run(&[&create[..], &["--subnet", &range, "--gateway", &gateway, LAN]].concat()).unwrap();
    }
    workloads::load(cluster.lab().nodes(), &workloads::redis().unwrap()).unwrap();
    cluster
}

/// The lab's subnet without its last number.
fn subnet(node: &Node) -> String {
    node.address().rsplit_once('.').unwrap().0.to_owned()
}

fn inspected(node: &Node, name: &str, format: &str) -> String {
    node.run(&["docker", "inspect", "--format", format, name]).unwrap()
}

/// The tables that close a network while it moves.
fn closed(node: &Node, name: &str) -> bool {
    let pid = inspected(node, name, "{{.State.Pid}}");
    node.run(&["nsenter", "--target", &pid, "--net", "nft", "list", "tables"]).unwrap().contains("fogshift")
}

#[test]
fn a_connection_goes_on_where_the_address_follows_and_ends_elsewhere() {
    let cluster = cluster();
    kept(&cluster);
    ended(&cluster);
}

fn kept(cluster: &Cluster) {
    let (a, b) = (cluster.node("A"), cluster.node("B"));
    let address = format!("{}.200", subnet(a));
    a.run(&["docker", "run", "--detach", "--name", "redis", "--network", LAN, "--ip", &address, workloads::REDIS])
        .unwrap();
    let mac = "{{(index .NetworkSettings.Networks \"lan\").MacAddress}}";
    let (first, place) = (inspected(a, "redis", mac), SocketAddr::new(address.parse().unwrap(), 6379));
    cluster.wait_known("redis", "A").unwrap();
    let client = Client::start(place).unwrap();
    client.wait_more(200).unwrap();

    for (from, to) in [("A", "B"), ("B", "A")] {
        client.worst();
        let migration = cluster.migrate("redis", to).unwrap();
        client.wait_more(200).unwrap();
        let (worst, connections) = (client.worst(), migration.connections.unwrap());
        eprintln!(
            "{from} → {to}: the client waited {} ms at most, frozen for at most {:.0} ms; {connections:?}",
            worst.as_millis(),
            migration.downtime_ms.unwrap()
        );
        assert!(connections.kept && connections.open > 0, "{connections:?}");
        assert_eq!(inspected(cluster.node(to), "redis", mac), first);
        assert!(!closed(cluster.node(to), "redis"));
        assert_eq!(state(cluster.node(from), "redis").unwrap(), None);
        cluster.wait_known("redis", to).unwrap();
    }

    // A roll back is no less careful.
    b.run(&["sh", "-c", "mv $(command -v criu) /root/criu && printf '#!/bin/sh\\nexit 1\\n' > /usr/sbin/criu && chmod +x /usr/sbin/criu"])
        .unwrap();
    client.worst();
    let migration = cluster.over(cluster.begin("redis", "B").unwrap().id).unwrap();
    assert_eq!(migration.phase, Phase::RolledBack);
    client.wait_more(200).unwrap();
    eprintln!("rolled back: the client waited {} ms at most", client.worst().as_millis());
    assert!(!closed(a, "redis"));
    b.run(&["sh", "-c", "mv /root/criu /usr/sbin/criu"]).unwrap();

    let seen = client.stop().unwrap();
    let mut after = one_connection::connect(place).unwrap();
    assert_eq!(one_connection::ask(&mut after, "INCR counter").unwrap(), format!(":{}", seen.operations + 1));
    eprintln!("{} operations over one connection, none lost or repeated", seen.operations);
    for node in [a, b] {
        assert_eq!(leftovers(node).unwrap(), Vec::<String>::new());
    }
    drop(after);
    a.run(&["docker", "rm", "--force", "redis"]).unwrap();
}

fn ended(cluster: &Cluster) {
    let (a, b) = (cluster.node("A"), cluster.node("B"));
    a.run(&["docker", "run", "--detach", "--name", "behind", "--publish", "6380:6379", workloads::REDIS]).unwrap();
    cluster.wait_known("behind", "A").unwrap();
    let place = |node: &Node| SocketAddr::new(node.address().parse().unwrap(), 6380);
    let mut waiting = one_connection::connect(place(a)).unwrap();
    assert_eq!(one_connection::ask(&mut waiting, "INCR counter").unwrap(), ":1");

    let migration = cluster.migrate("behind", "B").unwrap();
    let connections = migration.connections.unwrap();
    eprintln!("{connections:?}");
    assert!(!connections.kept && connections.open > 0, "{connections:?}");
    assert!(connections.reason.contains("bridge"), "{connections:?}");
    // It waits for nothing: the end of the connection comes by itself.
    match waiting.get_mut().read(&mut [0; 10]) {
        Ok(0) => {}
        Ok(_) => panic!("an answer nobody asked for"),
        Err(error) => assert!(!matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}"),
    }
    let mut anew = one_connection::connect(place(b)).unwrap();
    assert_eq!(one_connection::ask(&mut anew, "INCR counter").unwrap(), ":2");
    let clients = b.run(&["docker", "exec", "behind", "redis-cli", "CLIENT", "LIST"]).unwrap();
    assert_eq!(clients.lines().filter(|line| line.contains("addr=")).count(), 2, "the old one is gone: {clients}");
}
