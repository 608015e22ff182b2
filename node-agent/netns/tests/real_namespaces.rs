//! Two real namespaces with a cable between them; needs root, so `make e2e` runs it.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A namespace with a process in it; both end with the value.
struct Space(String, Child);

impl Space {
    fn new(name: &str) -> Space {
        let name = format!("fognet-{name}-{}", std::process::id());
        ip(&format!("netns add {name}"));
        let child = Command::new("ip").args(["netns", "exec", &name, "sleep", "infinity"]).spawn().unwrap();
        let inside = std::fs::read_link("/proc/self/ns/net").unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::fs::read_link(format!("/proc/{}/ns/net", child.id())).unwrap() == inside {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
        Space(name, child)
    }

    fn pid(&self) -> u32 {
        self.1.id()
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        self.1.kill().ok();
        self.1.wait().ok();
        Command::new("ip").args(["netns", "del", &self.0]).status().ok();
    }
}

#[test]
#[ignore = "needs root: `make e2e` runs it"]
fn a_closed_namespace_hears_nothing_and_gets_what_was_caught() {
    let (server, client) = (Space::new("server"), Space::new("client"));
    ip(&format!("-n {} link add eth0 type veth peer name eth0 netns {}", server.0, client.0));
    for (space, address) in [(&server, 1), (&client, 2)] {
        ip(&format!("-n {} address add 10.9.8.{address}/24 dev eth0", space.0));
        ip(&format!("-n {} link set eth0 up", space.0));
        ip(&format!("-n {} link set lo up", space.0));
    }
    let listener = fog_netns::inside(server.pid(), || TcpListener::bind("10.9.8.1:80")).unwrap();
    let mut client_end = fog_netns::inside(client.pid(), || TcpStream::connect("10.9.8.1:80")).unwrap();
    let (mut server_end, _) = listener.accept().unwrap();
    server_end.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(fog_netns::connections(server.pid()).unwrap().len(), 1);
    assert!(!fog_netns::connections(server.pid()).unwrap()[0].is_internal());

    let catch = fog_netns::close_and_catch(server.pid()).unwrap();
    fog_netns::close(server.pid()).unwrap(); // once more does no harm
    client_end.write_all(b"hello").unwrap();
    let mut caught = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(10);
    while caught.is_empty() {
        assert!(Instant::now() < deadline, "nothing was caught");
        caught = catch.take().unwrap();
    }
    server_end.set_nonblocking(true).unwrap();
    let mut buffer = [0; 10];
    assert_eq!(server_end.read(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock, "nothing comes in");
    server_end.set_nonblocking(false).unwrap();

    // The cable is cut: what arrives now was caught.
    ip(&format!("-n {} link set eth0 down", client.0));
    fog_netns::open(server.pid()).unwrap();
    fog_netns::open(server.pid()).unwrap();
    assert!(fog_netns::replay(server.pid(), caught).unwrap() > 0);
    assert_eq!(server_end.read(&mut buffer).unwrap(), 5);
    assert_eq!(&buffer[..5], b"hello");
    assert!(fog_netns::replay(server.pid(), vec![0, 0, 0, 9, 1]).is_err(), "damaged");
}

#[test]
#[ignore = "needs root: `make e2e` runs it"]
fn neighbours_are_told() {
    let (server, client) = (Space::new("told"), Space::new("hears"));
    ip(&format!("-n {} link add eth0 type veth peer name eth0 netns {}", server.0, client.0));
    ip(&format!("-n {} address add 10.9.8.1/24 dev eth0", server.0));
    ip(&format!("-n {} address add 10.9.8.2/24 dev eth0", client.0));
    // The client accepts what it did not ask for.
    let accept = fog_netns::inside(client.pid(), || std::fs::write("/proc/sys/net/ipv4/conf/all/arp_accept", "1"));
    accept.unwrap();
    ip(&format!("-n {} link set eth0 up", client.0));
    ip(&format!("-n {} link set eth0 up", server.0));
    let known = || {
        let output = Command::new("ip").args(["-n", &client.0, "neigh", "show", "10.9.8.1"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).contains("lladdr")
    };
    assert!(!known());
    fog_netns::announce(server.pid()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !known() {
        assert!(Instant::now() < deadline, "nobody was told");
        std::thread::yield_now();
    }
    let kept = fog_netns::inside(server.pid(), || std::fs::read("/proc/sys/net/ipv4/conf/eth0/arp_notify")).unwrap();
    assert_eq!(kept, b"0\n");
}
