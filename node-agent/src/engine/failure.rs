//! Why a step failed, on its way to becoming an answer.

use fog_api::agent::{Failure, FailureKind, Report};

use crate::runtime::DockerError;
use crate::transfer::TransferError;

/// What every step returns.
pub(super) type StepResult = Result<Report, Cause>;

/// Why a step failed. A box, so that results stay small.
#[derive(Debug)]
pub(super) struct Cause(Box<Failure>);

impl From<Cause> for Failure {
    fn from(cause: Cause) -> Failure {
        *cause.0
    }
}

impl From<Failure> for Cause {
    fn from(failure: Failure) -> Cause {
        Cause(Box::new(failure))
    }
}

impl Cause {
    pub(super) fn new(kind: FailureKind, message: impl Into<String>) -> Cause {
        Cause(Box::new(Failure { kind, message: message.into(), log: Vec::new() }))
    }

    pub(super) fn refused(message: impl Into<String>) -> Cause {
        Cause::new(FailureKind::Refused, message)
    }

    pub(super) fn gone(message: impl Into<String>) -> Cause {
        Cause::new(FailureKind::Gone, message)
    }

    pub(super) fn cancelled() -> Cause {
        Cause::new(FailureKind::Cancelled, "The migration was given up while this step was due or under way.")
    }

    /// Something of this node's own did not work.
    pub(super) fn node(what: &str, error: &dyn std::fmt::Display) -> Cause {
        Cause::new(FailureKind::Node, format!("{what}: {error}."))
    }

    /// Docker did not do `what`.
    pub(super) fn docker(what: &str) -> impl FnOnce(DockerError) -> Cause {
        move |error| {
            let kind = match error {
                DockerError::NotFound(_) => FailureKind::Gone,
                DockerError::Said { .. } | DockerError::Unreachable(_) => FailureKind::Runtime,
            };
            Cause::new(kind, format!("Docker could not {what}: {error}"))
        }
    }

    /// The stream to or from `peer` did not get through.
    pub(super) fn transfer(peer: &str) -> impl FnOnce(TransferError) -> Cause {
        move |error| Cause::new(FailureKind::Transfer, format!("The stream to {peer} did not get through: {error}."))
    }

    pub(super) fn with_log(mut self, log: Vec<String>) -> Cause {
        self.0.log = log;
        self
    }

    pub(super) fn kind(&self) -> FailureKind {
        self.0.kind
    }

    pub(super) fn message(&self) -> &str {
        &self.0.message
    }

    pub(super) fn log(&self) -> &[String] {
        &self.0.log
    }
}
