//! Whether this node can give and take containers, and what to do if it cannot.
//!
//! Each family of checks has a file. A check never changes anything; what can be changed safely is
//! in [`fix`], and only on request.

mod cgroup;
mod criu;
mod docker;
pub mod fix;
mod kernel;
mod migrations;
mod resources;
mod runc;
pub mod table;

use std::path::PathBuf;

use serde::Serialize;

use crate::config::Config;
use crate::runtime::Docker;
use crate::runtime::observe::Daemon;

pub use fog_api::doctor::{Check, Status};

/// The whole report.
#[derive(Debug, Clone, Serialize)]
pub struct Findings {
    /// Whether this node can give and take containers.
    pub can_migrate: bool,
    /// Every check, in a fixed order.
    pub checks: Vec<Check>,
    /// Docker's version, where a daemon answers.
    #[serde(skip)]
    pub docker_version: Option<String>,
    /// Where Docker keeps its data, where a daemon answers.
    #[serde(skip)]
    pub docker_data: Option<PathBuf>,
}

impl Findings {
    /// Why this node cannot migrate; empty when it can.
    pub fn reasons_against(&self) -> Vec<String> {
        let failed = self.checks.iter().filter(|check| check.status == Status::Fail);
        failed.map(|check| format!("{}: {}.", check.check, check.found.trim_end_matches(['.', '?']))).collect()
    }
}

/// Runs every check.
pub async fn examine(config: &Config) -> Findings {
    let daemon = ask_daemon(config).await;
    let (mut checks, criu) = tokio::join!(kernel::checks(), criu::checks());
    checks.extend(criu);
    checks.extend(runc::checks(daemon.as_ref().ok()).await);
    checks.extend(docker::checks(config, &daemon).await);
    checks.push(cgroup::check());
    checks.extend(resources::checks(config, daemon.as_ref().ok()));
    checks.extend(migrations::checks(config));
    let data = daemon.as_ref().ok().map(|daemon| PathBuf::from(&daemon.data_dir));
    Findings {
        docker_data: data.filter(|folder| !folder.as_os_str().is_empty()),
        can_migrate: checks.iter().all(|check| check.status != Status::Fail),
        checks,
        docker_version: daemon.ok().map(|daemon| daemon.version),
    }
}

async fn ask_daemon(config: &Config) -> Result<Daemon, String> {
    let docker = Docker::new(&config.docker_socket).map_err(|error| error.to_string())?;
    docker.daemon().await.map_err(|error| error.to_string())
}
