//! Redis with a GiB of data on a network where the address follows, and one client that never connects again.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use fog_api::migration::Strategy;
use fog_e2e::cluster::Cluster;
use fog_e2e::one_connection::{self, Client};
use fog_e2e::workloads;
use serde::Serialize;

use crate::moves::{migrate, settle, turns};

const NAME: &str = "bench-redis";
const LAN: &str = "lan";

/// What the client saw.
#[derive(Debug, Serialize)]
pub struct Redis {
    /// The longest wait for an answer in each move, in milliseconds.
    pub worst_ms: Vec<f64>,
    /// Answered operations; each was one higher than the one before, so none was lost or repeated.
    pub operations: u64,
}

/// Moves it there and back.
pub fn measure(cluster: &Cluster, moves: u32, strategy: Strategy) -> Result<Redis> {
    let a = cluster.node("A");
    let subnet = a.address().rsplit_once('.').context("an address without dots")?.0.to_owned();
    for node in cluster.lab().nodes() {
        let (range, gateway) = (format!("{subnet}.0/24"), format!("{subnet}.1"));
        let create = ["docker", "network", "create", "--driver", "macvlan", "--opt", "parent=eth0"];
        node.run(&[&create[..], &["--subnet", &range, "--gateway", &gateway, LAN]].concat())?;
    }
    workloads::load(cluster.lab().nodes(), &workloads::redis()?)?;
    let address = format!("{subnet}.200");
    let run = ["docker", "run", "--detach", "--name", NAME, "--label", "fogshift.post-copy=allowed", "--network", LAN];
    let server = ["redis-server", "--save", "", "--appendonly", "no", "--protected-mode", "no"];
    let filled = ["--enable-debug-command", "yes"];
    a.run(&[&run[..], &["--ip", &address, workloads::REDIS], &server, &filled].concat())?;
    let place = SocketAddr::new(address.parse()?, 6379);
    let mut filling = one_connection::connect(place)?;
    one_connection::ask(&mut filling, "DEBUG POPULATE 1000000 key 950")?;
    drop(filling);
    let client = Client::start(place)?;
    client.wait_more(200)?;
    let mut worst_ms = Vec::new();
    for (from, to) in turns(moves) {
        cluster.wait_known(NAME, from)?;
        settle();
        client.worst();
        let migration = migrate(cluster, NAME, to, strategy)?;
        client.wait_more(200)?;
        let worst = client.worst().as_secs_f64() * 1e3;
        eprintln!(
            "redis {from} → {to}: {worst:.0} ms at the client, {:?} {:?}",
            migration.downtime_ms, migration.stages_ms
        );
        worst_ms.push(worst);
    }
    let seen = client.stop().context("an operation was lost or repeated")?;
    for node in ["A", "B"] {
        cluster.node(node).exec(&["docker", "rm", "--force", NAME])?;
    }
    Ok(Redis { worst_ms, operations: seen.operations })
}
