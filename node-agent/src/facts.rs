//! What the node is, as opposed to what it does at the moment.

use std::time::Duration;

use fog_api::agent::NodeFacts;

use crate::config::Config;
use crate::doctor;
use crate::sampler::{Capacity, Cgroups};
use crate::tools;

/// How often an agent that is connected looks whether its facts have changed.
pub const REFRESH: Duration = Duration::from_secs(60);

/// Collects the facts. Runs a few programs, so it takes a moment.
pub async fn collect(config: &Config) -> NodeFacts {
    let cgroups = Cgroups::detect();
    let capacity = Capacity::of(config, &cgroups);
    let uname = rustix::system::uname();
    let findings = doctor::examine(config).await;
    NodeFacts {
        arch: uname.machine().to_string_lossy().into_owned(),
        kernel: uname.release().to_string_lossy().into_owned(),
        cpus: capacity.cpus,
        // A benchmark of a moment says more about the neighbours than about the core.
        cpu_score: 1.0,
        memory_bytes: capacity.memory_bytes,
        cgroup: cgroups.layout.map_or_else(|| "none".to_owned(), |layout| layout.to_string()),
        docker: findings.docker_version.clone(),
        criu: tools::criu_version().await.map(|version| version.text),
        runc: tools::runc_version().await.map(|version| version.text),
        labels: config.labels.clone(),
        cannot_migrate: findings.reasons_against(),
    }
}
