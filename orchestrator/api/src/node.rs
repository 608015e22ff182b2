//! Nodes and the links between them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::agent::{LinkSample, NodeFacts, Pressure};

/// Whether a node is there, judged by its heartbeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Availability {
    /// Heartbeats arrive.
    Active,
    /// Some are missing.
    Suspect,
    /// Too many are missing: it is not planned with.
    Offline,
}

/// `GET /v1/nodes`, `GET /v1/nodes/{name}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// The node's name.
    pub name: String,
    /// Whether it is there.
    pub availability: Availability,
    /// Its agent's connection is open.
    pub connected: bool,
    /// A person said that nothing new comes here.
    pub cordoned: bool,
    /// A person said that what is there leaves.
    pub draining: bool,
    /// The agent's version.
    pub agent_version: String,
    /// `host:port` of its transfer listener.
    pub transfer_address: String,
    /// Fixed properties.
    pub facts: NodeFacts,
    /// The newest sample, without its workloads and links.
    pub utilization: Option<Utilization>,
    /// Its links to the other nodes.
    pub links: Vec<LinkSample>,
    /// How many containers it holds.
    pub workloads: usize,
    /// When the last heartbeat arrived, by the orchestrator's clock.
    pub heartbeat_at: Option<Timestamp>,
}

/// The way from one node to another: `GET /v1/links`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Link {
    /// The node that measured.
    pub from: String,
    /// The other node.
    pub to: String,
    /// Round-trip time, median of the recent probes; `None` while nothing answered.
    pub rtt_ms: Option<f64>,
    /// Fraction of the recent probes that went unanswered, 0 to 1.
    pub loss: f64,
    /// Learned from real transfers; `None` before the first.
    pub bandwidth_mbps: Option<f64>,
    /// When it was measured, by the node's clock.
    pub at: Timestamp,
}

/// A node's past: `GET /v1/nodes/{name}/samples`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Samples {
    /// The node's name.
    pub node: String,
    /// The beginning of the range.
    pub from: Timestamp,
    /// Its end, not part of it.
    pub to: Timestamp,
    /// Seconds between two points.
    pub step_s: u64,
    /// The points, oldest first; steps without a sample are left out.
    pub points: Vec<SamplePoint>,
}

/// The samples of one step: means, unless the name says otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SamplePoint {
    /// The step's beginning.
    pub at: Timestamp,
    /// How many samples it holds.
    pub samples: u64,
    /// CPU, 0 to 1.
    pub cpu: f64,
    /// The highest CPU, 0 to 1.
    pub cpu_max: f64,
    /// Memory, 0 to 1.
    pub memory: f64,
    /// The highest memory, 0 to 1.
    pub memory_max: f64,
    /// Processes running or waiting for a CPU.
    pub run_queue: f64,
    /// Pressure stall information, where it is measured.
    pub pressure: Option<Pressure>,
    /// Used fraction of Docker's file system, 0 to 1.
    pub disk: f64,
    /// Bytes received a second.
    pub received_bytes_per_s: f64,
    /// Bytes sent a second.
    pub sent_bytes_per_s: f64,
    /// Hottest sensor, degrees Celsius.
    pub temperature_c: Option<f64>,
}

/// How far a node was from the others: `GET /v1/nodes/{name}/delays`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Delays {
    /// The node's name.
    pub node: String,
    /// The beginning of the range.
    pub from: Timestamp,
    /// Its end, not part of it.
    pub to: Timestamp,
    /// The points, oldest first: one a minute (five minutes in a cluster of more than 24 nodes), or one an hour where the range
    /// begins before the minutes that are kept.
    pub points: Vec<DelayPoint>,
}

/// The delays of one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DelayPoint {
    /// The step's beginning.
    pub at: Timestamp,
    /// The nearest few of those that answered, by name.
    pub links: Vec<PastDelay>,
}

/// A delay in the past.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PastDelay {
    /// The other node.
    pub to: String,
    /// The mean round-trip time, in milliseconds.
    pub rtt_ms: f64,
    /// The longest, in milliseconds.
    pub rtt_max_ms: f64,
}

/// A node's newest sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Utilization {
    /// When it was taken, by the node's clock.
    pub at: Timestamp,
    /// CPU, 0 to 1.
    pub cpu: f64,
    /// CPU over the policy's window: what decisions are made of, 0 to 1.
    pub cpu_sustained: f64,
    /// Memory, 0 to 1.
    pub memory: f64,
    /// Processes running or waiting for a CPU.
    pub run_queue: f64,
    /// Pressure stall information, where it is measured.
    pub pressure: Option<Pressure>,
    /// Used fraction of Docker's file system, 0 to 1.
    pub disk: f64,
    /// Hottest sensor, degrees Celsius.
    pub temperature_c: Option<f64>,
}
