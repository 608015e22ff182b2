//! What an agent measures: its node, its containers, the links to others.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::workload::WorkloadState;

/// What a node looked like at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Counts from 1 within the agent's boot.
    pub seq: u64,
    /// When it was taken, by the node's clock.
    pub at: Timestamp,
    /// CPU used, as a fraction of what the node may use, 0 to 1.
    pub cpu: f64,
    /// Processes running or waiting for a CPU.
    pub run_queue: f64,
    /// One-minute load average.
    pub load1: f64,
    /// Memory used, as a fraction of what the node may use, 0 to 1.
    pub memory: f64,
    /// Pressure stall information, `some` of the last 10 s, 0 to 1; `None` where the kernel does not measure it for what
    /// this node is.
    pub pressure: Option<Pressure>,
    /// Used fraction of the file system that holds Docker's data, 0 to 1.
    pub disk: f64,
    /// Bytes received a second over the node's own interfaces: not loopback, bridges or containers.
    pub network_received_bytes_per_s: f64,
    /// Bytes sent a second over the same interfaces.
    pub network_sent_bytes_per_s: f64,
    /// Hottest sensor in degrees Celsius; `None` where there is no sensor.
    pub temperature_c: Option<f64>,
    /// The node's containers, running or paused; `None` when Docker did not answer, so that nothing is known of them.
    pub workloads: Option<Vec<WorkloadSample>>,
    /// The links to other nodes.
    pub links: Vec<LinkSample>,
}

/// Pressure stall information, fractions 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Pressure {
    /// Waiting for CPU.
    pub cpu: f64,
    /// Waiting for memory.
    pub memory: f64,
    /// Waiting for IO.
    pub io: f64,
}

/// A container at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkloadSample {
    /// The container's name, without Docker's leading slash.
    pub name: String,
    /// Docker's container id.
    pub container: String,
    /// The image's name as the container was created with.
    pub image: String,
    /// What Docker says it does.
    pub state: WorkloadState,
    /// Cores used.
    pub cpus: f64,
    /// Memory used, page cache left out.
    pub memory_bytes: u64,
    /// What its files take of the disk (writable layer and volumes), measured now and then; `None`: not yet, or it cannot be.
    #[serde(default)]
    pub disk_bytes: Option<u64>,
    /// How many processes it has; `None` where nobody can count them.
    #[serde(default)]
    pub processes: Option<u32>,
    /// How much of its memory it writes a second, each page once, where that was measured.
    #[serde(default)]
    pub dirty_bytes_per_s: Option<u64>,
    /// CPU limit in cores, if any.
    pub cpus_limit: Option<f64>,
    /// Memory limit, if any.
    pub memory_limit_bytes: Option<u64>,
    /// The container's labels that begin with `fogshift.`.
    pub labels: BTreeMap<String, String>,
    /// Why it cannot be moved, each a whole sentence; empty when nothing stands in the way.
    pub obstacles: Vec<String>,
    /// Folders of the host that are mounted in it; whether that lets it move, the policy says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bind_mounts: Vec<String>,
}

/// What is known of the way to another node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LinkSample {
    /// The other node.
    pub to: String,
    /// Round-trip time, median of the recent probes; `None` while nothing answered.
    pub rtt_ms: Option<f64>,
    /// Fraction of the recent probes that went unanswered, 0 to 1.
    pub loss: f64,
    /// Learned from real transfers; `None` before the first.
    pub bandwidth_mbps: Option<f64>,
}
