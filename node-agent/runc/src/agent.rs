//! Asking the agent what to do with a container it made a restore folder for.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::restore_folder::agent_socket;

/// The agent's answer.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub(crate) enum Verdict {
    /// Restore it.
    Restore {
        images: PathBuf,
        work: PathBuf,
        criu_config: PathBuf,
        /// Options that runc has no flag for.
        criu_options: PathBuf,
        /// The images hold a network namespace.
        network: bool,
        /// The images say which cgroups the tasks were in.
        cgroups: bool,
        /// Nothing may come in or go out before the container is continued.
        closed_network: bool,
        /// Where CRIU waits until the rest of the images is there.
        gate: PathBuf,
    },
    /// Create it like any other container.
    Create,
    /// Fail.
    Refuse { reason: String },
}

/// Waits until the source could freeze; meanwhile the agent changes the container's files below `rootfs`. When the agent ends meanwhile, nothing is restored.
pub(crate) fn ask(container: &str, rootfs: Option<&Path>) -> Result<Verdict, String> {
    let socket = agent_socket();
    let mut stream = UnixStream::connect(&socket).map_err(|error| {
        format!("the agent cannot be asked on {}: {error}; is fog-agent running?", socket.display())
    })?;
    let mut question = serde_json::json!({"container": container, "rootfs": rootfs}).to_string();
    question.push('\n');
    stream.write_all(question.as_bytes()).map_err(|error| format!("the agent does not listen: {error}"))?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).map_err(|error| format!("the agent does not answer: {error}"))?;
    if answer.is_empty() {
        return Err("the agent ended before the container came; nothing was restored".into());
    }
    serde_json::from_str(&answer).map_err(|error| format!("the agent's answer is not understood: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_understood() {
        let restore = r#"{"verdict":"restore","images":"/i","work":"/w","criu_config":"/c","criu_options":"/o",
            "network":false,"cgroups":true,"closed_network":true,"gate":"/g"}"#;
        assert!(matches!(serde_json::from_str(restore), Ok(Verdict::Restore { cgroups: true, .. })));
        assert!(matches!(serde_json::from_str(r#"{"verdict":"create"}"#), Ok(Verdict::Create)));
        let refuse = r#"{"verdict":"refuse","reason":"no"}"#;
        assert!(matches!(serde_json::from_str(refuse), Ok(Verdict::Refuse { reason }) if reason == "no"));
    }
}
