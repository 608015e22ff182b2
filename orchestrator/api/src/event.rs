//! `GET /v1/events`: what changes, as server-sent events.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{decision::Decision, migration::Migration, node::Node, workload::Workload};

/// One event. The server-sent event's name is the tag, its data this JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Event {
    /// A node's newest state.
    Node {
        /// The node.
        node: Node,
    },
    /// A workload's newest state.
    Workload {
        /// The workload.
        workload: Workload,
    },
    /// A workload is gone.
    WorkloadGone {
        /// Its name.
        name: String,
    },
    /// A migration's newest state.
    Migration {
        /// The migration.
        migration: Migration,
    },
    /// A decision was made.
    Decision {
        /// The decision.
        decision: Decision,
    },
    /// The policy in force changed.
    Policy {
        /// Its version.
        version: u64,
    },
}

impl Event {
    /// Every server-sent event's name.
    pub const NAMES: [&'static str; 6] = ["node", "workload", "workload-gone", "migration", "decision", "policy"];

    /// The server-sent event's name.
    pub const fn name(&self) -> &'static str {
        match self {
            Event::Node { .. } => "node",
            Event::Workload { .. } => "workload",
            Event::WorkloadGone { .. } => "workload-gone",
            Event::Migration { .. } => "migration",
            Event::Decision { .. } => "decision",
            Event::Policy { .. } => "policy",
        }
    }
}
