//! What stands in the way of working well: of a node (`GET /v1/nodes/{name}/doctor`) and of the orchestrator itself
//! (`GET /v1/doctor`).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = CheckStatus)]
pub enum Status {
    /// As it should be.
    Ok,
    /// It works, but worse, or with a risk that somebody should know of.
    Warn,
    /// It does not work.
    Fail,
}

/// One line of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Check {
    /// What was looked at.
    pub check: String,
    /// How it ended.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// What to do about it.
    #[serde(default)]
    pub fix: Option<String>,
}

impl Check {
    /// As it should be.
    pub fn ok(check: &str, found: impl Into<String>) -> Self {
        Self { check: check.to_owned(), status: Status::Ok, found: found.into(), fix: None }
    }

    /// Worse than it should be.
    pub fn warn(check: &str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check: check.to_owned(), status: Status::Warn, found: found.into(), fix: Some(fix.into()) }
    }

    /// Broken.
    pub fn fail(check: &str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check: check.to_owned(), status: Status::Fail, found: found.into(), fix: Some(fix.into()) }
    }
}

/// A report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Report {
    /// The node; `null`: the orchestrator.
    pub node: Option<String>,
    /// Every check, in a fixed order.
    pub checks: Vec<Check>,
}
