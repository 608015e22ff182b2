//! Looking at Docker without touching anything: which containers there are, how they were made,
//! what they use, and what the daemon says about itself.
//!
//! Samples must not wait for a daemon that hangs, so every question here has a short patience.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bollard::models::ContainerSummaryStateEnum;
use bollard::query_parameters::{ListContainersOptionsBuilder, StatsOptionsBuilder};
use fog_api::workload::WorkloadState;
use futures_util::StreamExt;
use serde_json::Value;

use super::obstacles::{bind_mounts, lasting_obstacles};
use super::{Docker, DockerError, found};

/// Docker answers a question within this time or counts as away.
const PATIENCE: Duration = Duration::from_secs(3);

/// A container that runs or is paused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Docker's id.
    pub id: String,
    /// Without the leading slash.
    pub name: String,
    /// What it does.
    pub state: WorkloadState,
}

/// How a container was made and what that means for us.
#[derive(Debug, Clone, PartialEq)]
pub struct Details {
    /// The image's name as the container was created with.
    pub image: String,
    /// The first process, as this PID namespace sees it.
    pub pid: Option<u32>,
    /// CPU limit in cores.
    pub cpus_limit: Option<f64>,
    /// Memory limit.
    pub memory_limit_bytes: Option<u64>,
    /// Labels that begin with `fogshift.`.
    pub labels: BTreeMap<String, String>,
    /// Where the contents of its volumes are, those of Docker's own driver.
    pub volumes: Vec<PathBuf>,
    /// Why it cannot be moved.
    pub obstacles: Vec<String>,
    /// Folders of the host that are mounted in it.
    pub bind_mounts: Vec<String>,
}

/// What a container has used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// CPU time since the container started.
    pub cpu: Duration,
    /// Memory, page cache left out.
    pub memory_bytes: u64,
}

/// What the daemon says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Daemon {
    /// For example `28.5.2+dfsg4`.
    pub version: String,
    /// Where Docker keeps its data.
    pub data_dir: String,
    /// Registered runtimes and the programs behind them.
    pub runtimes: BTreeMap<String, String>,
    /// The runtime that containers get when they name none.
    pub default_runtime: String,
    /// Security options; a rootless or user-remapped daemon shows here.
    pub security: Vec<String>,
}

impl Docker {
    /// The containers that run or are paused.
    pub async fn list(&self) -> Result<Vec<Listed>, DockerError> {
        let options = ListContainersOptionsBuilder::new().all(false).build();
        let summaries = patiently(self.client().list_containers(Some(options))).await?;
        let listed = summaries.into_iter().filter_map(|summary| {
            let name = summary.names.unwrap_or_default().into_iter().find_map(|name| {
                // Legacy links show up as "/other/alias".
                name.strip_prefix('/').filter(|rest| !rest.contains('/')).map(str::to_owned)
            })?;
            let state = match summary.state {
                Some(ContainerSummaryStateEnum::RUNNING) => WorkloadState::Running,
                Some(ContainerSummaryStateEnum::PAUSED) => WorkloadState::Paused,
                _ => WorkloadState::Stopped,
            };
            Some(Listed { id: summary.id?, name, state })
        });
        Ok(listed.collect())
    }

    /// How a container was made; `None` if it is gone.
    pub async fn details(&self, id: &str) -> Result<Option<Details>, DockerError> {
        let inspect = patiently(self.inspect(id)).await?;
        Ok(inspect.as_ref().map(understand))
    }

    /// What a container has used according to Docker; `None` if it is gone.
    pub async fn usage(&self, id: &str) -> Result<Option<Usage>, DockerError> {
        let options = StatsOptionsBuilder::new().stream(false).one_shot(true).build();
        let mut answers = std::pin::pin!(self.client().stats(id, Some(options)));
        let Some(stats) = found(patiently(async { answers.next().await.transpose() }).await)?.flatten() else {
            return Ok(None);
        };
        let cpu = stats.cpu_stats.and_then(|cpu| cpu.cpu_usage).and_then(|usage| usage.total_usage);
        let memory = stats.memory_stats.map(|memory| {
            let details = memory.stats.unwrap_or_default();
            let cache = details.get("total_inactive_file").or_else(|| details.get("inactive_file"));
            memory.usage.unwrap_or(0).saturating_sub(cache.copied().unwrap_or(0))
        });
        Ok(Some(Usage { cpu: Duration::from_nanos(cpu.unwrap_or(0)), memory_bytes: memory.unwrap_or(0) }))
    }

    /// What the daemon says about itself.
    pub async fn daemon(&self) -> Result<Daemon, DockerError> {
        let info = patiently(self.client().info()).await?;
        let runtimes = info.runtimes.unwrap_or_default();
        Ok(Daemon {
            version: info.server_version.unwrap_or_default(),
            data_dir: info.docker_root_dir.unwrap_or_default(),
            runtimes: runtimes.into_iter().map(|(name, runtime)| (name, runtime.path.unwrap_or_default())).collect(),
            default_runtime: info.default_runtime.unwrap_or_default(),
            security: info.security_options.unwrap_or_default(),
        })
    }
}

async fn patiently<T, E: Into<DockerError>>(question: impl Future<Output = Result<T, E>>) -> Result<T, DockerError> {
    match tokio::time::timeout(PATIENCE, question).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(_) => Err(DockerError::Unreachable(format!("no reply within {} s", PATIENCE.as_secs()))),
    }
}

fn understand(inspect: &Value) -> Details {
    let number = |pointer: &str| inspect.pointer(pointer).and_then(Value::as_i64).filter(|&number| number > 0);
    let labels = inspect.pointer("/Config/Labels").and_then(Value::as_object);
    let word = |mount: &Value, key: &str| mount.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mounts = inspect.get("Mounts").and_then(Value::as_array).into_iter().flatten();
    let local = mounts.filter(|mount| word(mount, "Type") == "volume" && word(mount, "Driver") == "local");
    let ours = labels.into_iter().flatten().filter(|(key, _)| key.starts_with("fogshift."));
    Details {
        image: inspect.pointer("/Config/Image").and_then(Value::as_str).unwrap_or_default().to_owned(),
        pid: number("/State/Pid").and_then(|pid| u32::try_from(pid).ok()),
        // `--cpus` and `--cpu-quota` are two ways to say the same.
        cpus_limit: number("/HostConfig/NanoCpus").map(|nano| nano as f64 / 1e9).or_else(|| {
            let period = number("/HostConfig/CpuPeriod").unwrap_or(100_000);
            Some(number("/HostConfig/CpuQuota")? as f64 / period as f64)
        }),
        memory_limit_bytes: number("/HostConfig/Memory").and_then(|limit| u64::try_from(limit).ok()),
        labels: ours.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect(),
        volumes: local.map(|mount| word(mount, "Source").into()).collect(),
        obstacles: lasting_obstacles(inspect),
        bind_mounts: bind_mounts(inspect),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_inspect_is_reduced_to_what_matters() {
        let details = understand(&json!({
            "Id": "abc", "Name": "/looper",
            "State": {"Status": "running", "Running": true, "Pid": 347},
            "Config": {"Image": "bb:1", "Labels": {"fogshift.tier": "edge", "other": "x"}},
            "HostConfig": {"NanoCpus": 250_000_000, "Memory": 67_108_864},
            "Mounts": [{"Type": "volume", "Driver": "local", "Source": "/d/v/_data"}, {"Type": "volume", "Driver": "nfs", "Source": "/n"},
                       {"Type": "bind", "Source": "/b"}],
        }));
        assert_eq!(details.volumes, [PathBuf::from("/d/v/_data")]);
        assert_eq!(details.image, "bb:1");
        assert_eq!(details.pid, Some(347));
        assert_eq!(details.cpus_limit, Some(0.25));
        assert_eq!(details.memory_limit_bytes, Some(64 << 20));
        assert_eq!(details.labels, BTreeMap::from([("fogshift.tier".to_owned(), "edge".to_owned())]));
    }

    #[test]
    fn limits() {
        let limit = |host: Value| understand(&json!({ "HostConfig": host })).cpus_limit;
        assert_eq!(limit(json!({"NanoCpus": 0, "CpuQuota": 50_000, "CpuPeriod": 0})), Some(0.5));
        assert_eq!(limit(json!({"CpuQuota": 150_000, "CpuPeriod": 50_000})), Some(3.0));
        assert_eq!(limit(json!({"NanoCpus": 0, "CpuQuota": -1})), None);
        assert_eq!(understand(&json!({"HostConfig": {"Memory": 0}})).memory_limit_bytes, None);
    }
}
