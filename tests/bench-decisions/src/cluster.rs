//! A cluster as the planner sees it, for measuring how long it thinks.

use anyhow::Result;
use fog_core::Snapshot;
use serde_json::{Value, json};

use crate::random::Random;

/// Nodes of 4 to 16 cores, each linked to its 8 nearest; workloads spread unevenly, so that about one node in ten is
/// overloaded. With `full`, nobody has room: the worst case, in which every destination is refused.
pub fn snapshot(nodes: usize, workloads: usize, full: bool, seed: u64) -> Result<Snapshot> {
    let mut random = Random::new(seed);
    let name = |at: usize| format!("node-{at:05}");
    let mut listed: Vec<Value> = Vec::new();
    for at in 0..nodes {
        let hot = at % 10 == 3;
        let cpu = match (hot, full) {
            (true, _) => random.between(0.81, 0.99),
            (false, true) => random.between(0.66, 0.70),
            (false, false) => random.between(0.10, 0.70),
        };
        let (cpus, speed) = ([4.0, 8.0, 16.0][random.below(3)], [0.8, 1.0, 1.3][random.below(3)]);
        listed.push(json!({
            "name": name(at), "arch": "x86_64", "cpus": cpus, "memory_bytes": 16u64 << 30,
            "cpu": cpu, "cpu_window": [cpu, cpu, cpu], "memory": random.between(0.2, 0.7),
            "cpu_score": speed,
            "run_queue": random.between(0.0, 8.0), "temperature_c": random.between(35.0, 70.0),
            "position": {"lat": random.between(60.0, 61.0), "lon": random.between(22.0, 25.0)},
        }));
    }
    let mut links = Vec::new();
    for at in 0..nodes {
        for step in 1..=4 {
            if nodes > 2 * step {
                let (from, to) = (name(at), name((at + step) % nodes));
                let (rtt_ms, bandwidth_mbps) = (random.heavy(0.5, 200.0), random.between(50.0, 1000.0));
                links.push(json!({"from": from, "to": to, "rtt_ms": rtt_ms, "bandwidth_mbps": bandwidth_mbps}));
            }
        }
    }
    let mut running = Vec::new();
    for at in 0..workloads {
        let least = if full { 0.5 } else { 0.02 };
        running.push(json!({
            "name": format!("w-{at:06}"), "node": name(random.below(nodes)), "cpus": random.heavy(least, 4.0),
            "memory_bytes": random.heavy(8e6, 2e9).round() as u64,
        }));
    }
    let at = "2026-11-22T10:00:00Z";
    Ok(serde_json::from_value(json!({"at": at, "nodes": listed, "links": links, "workloads": running}))?)
}
