//! `GET /v1/events`: what happens, as server-sent events.
//!
//! An event with a sequence number is *history*: it was stored in the transaction that made it happen, has an `id` and is
//! given exactly once, also to a listener that comes back with `Last-Event-ID` after a restart. An event without one is
//! *live*: the newest state of something that changes all the time (`node`, `workload`, and `migration` while bytes travel).
//! Whoever missed one gets a newer one soon.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::node::Availability;
use crate::{decision::Decision, migration::Migration, node::Node, workload::Workload};

/// An event with its place in the history. The server-sent event's name is the tag, its data this JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Occurrence {
    /// Its number in the history, also the server-sent event's `id`; left out of live events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// When it happened, by the orchestrator's clock.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// A server-sent event as it is on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerSentEvent {
    /// The event's `type`, or `ready` (the stream is open), or `missed` (what was asked for is not kept any more).
    pub event: String,
    /// Its number in the history; left out of live events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub id: Option<String>,
    /// An `Occurrence` as JSON.
    pub data: String,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Event {
    /// Live: a node's newest state.
    Node {
        /// The node.
        node: Node,
    },
    /// Live: a workload's newest state.
    Workload {
        /// The workload.
        workload: Workload,
    },
    /// A workload was found.
    WorkloadFound {
        /// Its name.
        name: String,
        /// Where it is.
        node: String,
        /// Its epoch from now on.
        epoch: u64,
    },
    /// A workload is gone.
    WorkloadGone {
        /// Its name.
        name: String,
    },
    /// A migration came further. Live ones without a number, in between, show how many bytes have travelled.
    Migration {
        /// The migration.
        migration: Migration,
    },
    /// A decision was made.
    Decision {
        /// The decision.
        decision: Decision,
    },
    /// Another policy is in force.
    Policy {
        /// Its version.
        version: u64,
        /// Who changed it.
        #[serde(default)]
        by: String,
    },
    /// A node is there again, suspect, or offline.
    Availability {
        /// The node's name.
        name: String,
        /// What it is now.
        availability: Availability,
    },
    /// A person cordoned, drained or uncordoned a node.
    NodeOrdered {
        /// The node's name.
        name: String,
        /// Nothing new comes here.
        cordoned: bool,
        /// What is there leaves.
        draining: bool,
        /// Who.
        by: String,
    },
}

impl Event {
    /// Every server-sent event's name.
    pub const NAMES: [&'static str; 9] = [
        "node",
        "workload",
        "workload-found",
        "workload-gone",
        "migration",
        "decision",
        "policy",
        "availability",
        "node-ordered",
    ];

    /// The server-sent event's name.
    pub const fn name(&self) -> &'static str {
        match self {
            Event::Node { .. } => "node",
            Event::Workload { .. } => "workload",
            Event::WorkloadFound { .. } => "workload-found",
            Event::WorkloadGone { .. } => "workload-gone",
            Event::Migration { .. } => "migration",
            Event::Decision { .. } => "decision",
            Event::Policy { .. } => "policy",
            Event::Availability { .. } => "availability",
            Event::NodeOrdered { .. } => "node-ordered",
        }
    }

    /// The workload that it is about.
    pub fn workload(&self) -> Option<&str> {
        match self {
            Event::Workload { workload } => Some(&workload.name),
            Event::WorkloadFound { name, .. } | Event::WorkloadGone { name } => Some(name),
            Event::Migration { migration } => Some(&migration.workload),
            Event::Decision { decision } => Some(&decision.workload),
            Event::Node { .. } | Event::Policy { .. } | Event::Availability { .. } | Event::NodeOrdered { .. } => None,
        }
    }

    /// Whether it is about this node.
    pub fn concerns_node(&self, wanted: &str) -> bool {
        match self {
            Event::Node { node } => node.name == wanted,
            Event::Workload { workload } => workload.node == wanted,
            Event::WorkloadFound { node, .. } => node == wanted,
            Event::Migration { migration } => migration.source == wanted || migration.destination == wanted,
            Event::Decision { decision } => {
                decision.source == wanted || decision.destination.as_deref() == Some(wanted)
            }
            Event::Availability { name, .. } | Event::NodeOrdered { name, .. } => name == wanted,
            Event::WorkloadGone { .. } | Event::Policy { .. } => false,
        }
    }
}

/// Which events somebody wants; what is empty or left out filters nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EventFilter {
    /// Only events of these names.
    pub types: Vec<String>,
    /// Only events about this node.
    pub node: Option<String>,
    /// Only events about this workload.
    pub workload: Option<String>,
}

impl EventFilter {
    /// Whether the event is wanted.
    pub fn takes(&self, event: &Event) -> bool {
        (self.types.is_empty() || self.types.iter().any(|name| name == event.name()))
            && self.node.as_ref().is_none_or(|node| event.concerns_node(node))
            && self.workload.as_ref().is_none_or(|name| event.workload() == Some(name))
    }

    /// The first name that no event has.
    pub fn unknown_type(&self) -> Option<&str> {
        self.types.iter().map(String::as_str).find(|name| !Event::NAMES.contains(name))
    }
}
