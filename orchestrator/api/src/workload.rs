//! Workloads: containers that Fogshift knows, by their names.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// What a container does, in Docker's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WorkloadState {
    /// It runs.
    Running,
    /// It is paused, by a person or by a migration.
    Paused,
    /// Anything else: created, restarting, exited, dead.
    Stopped,
}

/// `GET /v1/workloads`, `GET /v1/workloads/{name}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Workload {
    /// The container's name, unique in the cluster.
    pub name: String,
    /// The node that owns it.
    pub node: String,
    /// Rises by one with every committed migration.
    pub epoch: u64,
    /// What it does.
    pub state: WorkloadState,
    /// Docker's container id on that node.
    pub container: String,
    /// The image's name.
    pub image: String,
    /// Cores used.
    pub cpus: f64,
    /// Memory used.
    pub memory_bytes: u64,
    /// CPU limit in cores, if any.
    pub cpus_limit: Option<f64>,
    /// Memory limit, if any.
    pub memory_limit_bytes: Option<u64>,
    /// The container's labels that begin with `fogshift.`.
    pub labels: BTreeMap<String, String>,
    /// Why it cannot be moved; empty when nothing stands in the way.
    pub obstacles: Vec<String>,
    /// The migration that is moving it now.
    pub migration: Option<Uuid>,
    /// When it last arrived where it is by a migration.
    pub moved_at: Option<Timestamp>,
    /// When the node last reported it.
    pub seen_at: Timestamp,
}
