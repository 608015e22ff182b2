//! Whether a migration would be possible: every reason against it, before anything is touched.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::migration::Connections;

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// The migration would be refused or fail.
    Blocker,
    /// It would work; somebody should know before.
    Warning,
}

impl std::fmt::Display for Weight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Weight::Blocker => "blocker",
            Weight::Warning => "warning",
        })
    }
}

/// One thing that stands in the way, or that somebody should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// What was looked at, for programs: `tty`, `devices`, `memory`, `port`, `cpu-features`, …
    pub check: String,
    /// How much it weighs.
    pub weight: Weight,
    /// The node that found it; `None`: the orchestrator did, from what it knows of both.
    #[serde(default)]
    pub node: Option<String>,
    /// A sentence for people: what, why, what to do.
    pub message: String,
}

impl Finding {
    /// Something that rules the migration out.
    pub fn blocker(check: &str, message: impl Into<String>) -> Self {
        Self { check: check.to_owned(), weight: Weight::Blocker, node: None, message: message.into() }
    }

    /// Something to know before.
    pub fn warning(check: &str, message: impl Into<String>) -> Self {
        Self { weight: Weight::Warning, ..Self::blocker(check, message) }
    }

    /// Found by this node.
    #[must_use]
    pub fn by(self, node: &str) -> Self {
        Self { node: Some(node.to_owned()), ..self }
    }
}

/// `GET /v1/preflight`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Preflight {
    /// The workload's name.
    pub workload: String,
    /// Where it is.
    pub source: String,
    /// Where it would go.
    pub destination: String,
    /// No blocker was found.
    pub possible: bool,
    /// Everything that was found, blockers first.
    pub findings: Vec<Finding>,
    /// What would become of its TCP connections; `None` when the destination could not be asked.
    pub connections: Option<Connections>,
    /// How long it took to find out.
    pub took_ms: f64,
}
