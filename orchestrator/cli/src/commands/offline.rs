//! Files that the planner is tried with, without a server.

use std::io::Read;
use std::path::Path;

use fog_core::{Policy, Snapshot};

use crate::exit::{Exit, Failure};

pub(super) fn read(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    read.map_err(|error| Failure::new(Exit::Usage, format!("cannot read {}: {error}", file.display())))
}

/// A snapshot that passed its check, also against the policy's rules.
pub(super) fn snapshot(file: &Path, policy: &Policy) -> Result<Snapshot, Failure> {
    let refuse = |why: String| Failure::new(Exit::Failed, format!("{}: {why}", file.display()));
    let snapshot: Snapshot =
        serde_json::from_str(&read(file)?).map_err(|error| refuse(format!("this is no snapshot: {error}")))?;
    match snapshot.check_with(policy) {
        // A running cluster may still be empty; a file that says so is a mistake.
        Ok(()) if snapshot.nodes.is_empty() => {
            Err(refuse("the snapshot is not valid:".to_owned())
                .hint("nodes: the cluster is empty; give at least one node"))
        }
        Ok(()) => Ok(snapshot),
        Err(error) => {
            Err(error.problems.iter().fold(refuse("the snapshot is not valid:".to_owned()), |failure, problem| {
                failure.hint(problem.to_string())
            }))
        }
    }
}

/// A policy that passed its check.
pub(super) fn policy(file: &Path) -> Result<Policy, Failure> {
    Policy::parse(&read(file)?, &file.display().to_string()).map_err(|error| {
        let text = error.to_string();
        let mut lines = text.lines();
        let failure = Failure::new(Exit::Failed, lines.next().unwrap_or_default());
        lines.fold(failure, Failure::hint)
    })
}
