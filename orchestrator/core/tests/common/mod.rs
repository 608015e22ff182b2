//! Small clusters to test with.
#![allow(dead_code, reason = "every test file uses a part of it")]

use fog_core::{InFlight, Link, Node, NodeName, Snapshot, Workload};
use jiff::Timestamp;
use serde_json::json;

pub(crate) fn now() -> Timestamp {
    "2026-11-22T10:00:00Z".parse().expect("a time")
}

pub(crate) fn name(text: &str) -> NodeName {
    text.parse().expect("a name")
}

/// One core, 1 GiB, 40 % of it used, and `cpu` for the whole window.
pub(crate) fn node(name: &str, cpu: f64) -> Node {
    let json = json!({"name": name, "arch": "x86_64", "cpus": 1.0, "memory_bytes": 1u64 << 30, "cpu": cpu,
        "cpu_window": [cpu, cpu, cpu], "memory": 0.4});
    serde_json::from_value(json).expect("a node")
}

/// `cpus` cores and 4 MiB.
pub(crate) fn workload(name: &str, node: &str, cpus: f64) -> Workload {
    let json = json!({"name": name, "node": node, "cpus": cpus, "memory_bytes": 4u64 << 20});
    serde_json::from_value(json).expect("a workload")
}

pub(crate) fn link(from: &str, to: &str, rtt_ms: f64) -> Link {
    serde_json::from_value(json!({"from": from, "to": to, "rtt_ms": rtt_ms, "bandwidth_mbps": 900})).expect("a link")
}

pub(crate) fn flight(workload: &str, from: &str, to: &str) -> InFlight {
    InFlight { workload: workload.parse().expect("a name"), from: name(from), to: name(to) }
}

/// The thesis's machines: A 90 %, B 65 %, C 20 % and near, D 15 % and far; the looper on A.
pub(crate) fn thesis() -> Snapshot {
    Snapshot {
        at: now(),
        nodes: vec![node("A", 0.90), node("B", 0.65), node("C", 0.20), node("D", 0.15)],
        links: vec![link("A", "B", 2.0), link("A", "C", 2.0), link("A", "D", 80.0)],
        workloads: vec![workload("looper", "A", 0.01)],
        in_flight: Vec::new(),
    }
}
