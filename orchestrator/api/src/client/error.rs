//! Why a call failed, in words that a person can act on.

use crate::problem::Problem;

/// Why a call failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// The client's own settings cannot work; nothing was sent.
    #[error("{url}: {why}")]
    Address {
        /// The address as given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody answered, or the connection broke. A write may or may not have been done.
    #[error("cannot reach {url}: {why}")]
    Unreachable {
        /// The orchestrator's address.
        url: String,
        /// What happened.
        why: String,
    },
    /// The orchestrator said no, and why.
    #[error("{0}")]
    Problem(Problem),
    /// Somebody answered, but not as an orchestrator of this version does.
    #[error("{url} does not answer as a Fogshift orchestrator: {what}")]
    Unexpected {
        /// The orchestrator's address.
        url: String,
        /// The HTTP status, if there was one.
        status: Option<u16>,
        /// What it said.
        what: String,
    },
}

impl ClientError {
    /// Whether the same call may succeed a little later without anybody doing anything.
    pub fn is_passing(&self) -> bool {
        let passing = |status: u16| status >= 500 || status == 429;
        match self {
            ClientError::Address { .. } => false,
            ClientError::Unreachable { .. } => true,
            ClientError::Problem(problem) => passing(problem.status),
            ClientError::Unexpected { status, .. } => status.is_some_and(passing),
        }
    }

    pub(super) fn from_request(url: &str, error: &reqwest::Error) -> Self {
        let why = if error.is_timeout() && error.is_connect() {
            format!("no connection within {} s", super::CONNECT_TIMEOUT.as_secs())
        } else if error.is_timeout() {
            format!("no answer within {} s", super::REQUEST_TIMEOUT.as_secs())
        } else if error.is_body() || error.is_decode() {
            "the connection broke".to_owned()
        } else {
            innermost(error)
        };
        Self::Unreachable { url: url.to_owned(), why }
    }
}

/// The first cause: what lies around it only says that a request failed.
pub(super) fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let text = match cause.downcast_ref::<std::io::Error>() {
        Some(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        _ => cause.to_string(),
    };
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_owned()
}

/// Enough of a foreign answer to recognise who gave it.
pub(super) fn beginning(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or("nothing");
    let mut beginning: String = line.chars().take(120).collect();
    if beginning.len() < line.len() {
        beginning.push('…');
    }
    beginning
}
