//! The folder that the agent makes for a container it wants restored.
//!
//! It is the only sign that a call concerns us; without it, fog-runc is runc at the price of one `stat`.

use std::path::{Path, PathBuf};

/// The agent's run directory; `FOG_RUN_DIR` names another one.
const RUN_DIR: &str = "/run/fogshift";

/// `<run dir>/restore/<container>`
#[derive(Debug, Clone)]
pub(crate) struct RestoreFolder(PathBuf);

impl RestoreFolder {
    /// The container's folder, if there is one.
    pub(crate) fn of(container: &str) -> Option<RestoreFolder> {
        if container.is_empty() || container.contains('/') || container.starts_with('.') {
            return None;
        }
        let folder = run_dir().join("restore").join(container);
        folder.is_dir().then_some(RestoreFolder(folder))
    }

    /// The folder of an inner call.
    pub(crate) fn at(path: PathBuf) -> RestoreFolder {
        RestoreFolder(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The agent has found something in the images that can only be restored when the network is wired.
    pub(crate) fn is_wired_first(&self) -> bool {
        self.0.join("wired-first").exists()
    }

    /// Where the supervisor reports to `create`.
    pub(crate) fn report_socket(&self) -> PathBuf {
        self.0.join("report.sock")
    }

    /// Where the supervisor listens for the hook, `start` and `delete`.
    pub(crate) fn supervisor_socket(&self) -> PathBuf {
        self.0.join("supervisor.sock")
    }
}

/// Where the agent answers.
pub(crate) fn agent_socket() -> PathBuf {
    run_dir().join("fog-runc.sock")
}

fn run_dir() -> PathBuf {
    std::env::var_os("FOG_RUN_DIR").map_or_else(|| RUN_DIR.into(), PathBuf::from)
}
