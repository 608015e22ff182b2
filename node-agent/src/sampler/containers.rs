//! Containers: which there are and what each uses.
//!
//! Docker is asked for the list at every sample and for the details only when they may have
//! changed. What a container uses is read from its own cgroup, which costs two small files instead
//! of a round trip through the daemon.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fog_api::agent::WorkloadSample;
use fog_api::workload::WorkloadState;
use tokio::sync::Semaphore;

use super::cgroup::{Cgroups, Membership};
use super::cpu::CpuCounter;
use super::held::Held;
use crate::runtime::observe::{Details, Listed, Usage};
use crate::runtime::{Docker, DockerError};

/// Limits, restart policy and the like can change without the state changing.
const DETAILS_LAST: Duration = Duration::from_secs(10);

/// Follows the node's containers from sample to sample.
#[derive(Debug)]
pub(super) struct ContainerMeter {
    docker: Docker,
    known: HashMap<String, Known>,
    away: bool,
    /// Counting files is for one container at a time.
    counting: Arc<Semaphore>,
}

#[derive(Debug)]
struct Known {
    state: WorkloadState,
    details: Details,
    membership: Option<Membership>,
    learned: Instant,
    /// [`Docker::updates`] when it was learned.
    updates: u64,
    cpu: CpuCounter,
    writes: Writes,
    held: Held,
}

impl ContainerMeter {
    /// A meter that asks this daemon.
    pub(super) fn new(docker: Docker) -> Self {
        Self { docker, known: HashMap::new(), away: false, counting: Arc::new(Semaphore::new(1)) }
    }

    /// The containers as they are now; `None` when Docker does not answer.
    pub(super) async fn read(&mut self, cgroups: &Cgroups) -> Option<Vec<WorkloadSample>> {
        match self.try_read(cgroups).await {
            Ok(workloads) => {
                if std::mem::replace(&mut self.away, false) {
                    tracing::info!("Docker answers again");
                }
                Some(workloads)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.away, true) {
                    tracing::warn!(%error, "no containers can be reported until Docker answers");
                }
                None
            }
        }
    }

    async fn try_read(&mut self, cgroups: &Cgroups) -> Result<Vec<WorkloadSample>, DockerError> {
        let listed = self.docker.list().await?;
        self.known.retain(|id, _| listed.iter().any(|container| container.id == *id));
        let mut workloads = Vec::with_capacity(listed.len());
        for container in &listed {
            if let Some(sample) = self.measure(container, cgroups).await? {
                workloads.push(sample);
            }
        }
        workloads.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(workloads)
    }

    /// `None` if the container ended since it was listed.
    async fn measure(&mut self, container: &Listed, cgroups: &Cgroups) -> Result<Option<WorkloadSample>, DockerError> {
        let Some(known) = recall(&mut self.known, &self.docker, container).await? else { return Ok(None) };
        let from_files = known.membership.as_ref().and_then(|group| of_cgroup(cgroups, group));
        let usage = match from_files {
            Some(usage) => Some(usage),
            None => self.docker.usage(&container.id).await?,
        };
        let Some(usage) = usage else { return Ok(None) };
        let details = &known.details;
        let processes = known.membership.as_ref().and_then(|group| cgroups.processes(group));
        Ok(Some(WorkloadSample {
            name: container.name.clone(),
            container: container.id.clone(),
            image: details.image.clone(),
            state: container.state,
            cpus: known.cpu.advance(Instant::now(), usage.cpu).unwrap_or(0.0),
            memory_bytes: usage.memory_bytes,
            disk_bytes: known.held.bytes(details.pid, &details.volumes, &self.counting),
            processes,
            dirty_bytes_per_s: known.writes.rate(
                details.pid.and_then(|pid| i32::try_from(pid).ok()),
                usage.memory_bytes,
                processes,
            ),
            cpus_limit: details.cpus_limit,
            memory_limit_bytes: details.memory_limit_bytes,
            labels: details.labels.clone(),
            obstacles: details.obstacles.clone(),
            bind_mounts: details.bind_mounts.clone(),
        }))
    }
}

/// What is known of a container, asking Docker if that may be out of date.
async fn recall<'a>(
    known: &'a mut HashMap<String, Known>,
    docker: &Docker,
    container: &Listed,
) -> Result<Option<&'a mut Known>, DockerError> {
    let updates = docker.updates();
    let current = |known: &Known| {
        known.state == container.state && known.learned.elapsed() < DETAILS_LAST && known.updates == updates
    };
    if !known.get(&container.id).is_some_and(current) {
        let Some(details) = docker.details(&container.id).await? else { return Ok(None) };
        let membership = details
            .pid
            .and_then(|pid| Membership::parse(&std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?));
        let before = known.remove(&container.id).map(|before| (before.cpu, before.writes, before.held));
        let (cpu, writes, held) = before.unwrap_or_default();
        let learned =
            Known { state: container.state, details, membership, learned: Instant::now(), updates, cpu, writes, held };
        known.insert(container.id.clone(), learned);
    }
    Ok(known.get_mut(&container.id))
}

/// How fast a container writes to its memory. Measured where a strategy can depend on it: pages travel by themselves only for a
/// single process, and nobody prepares a small one.
#[derive(Debug, Clone, Default)]
struct Writes {
    measured: Arc<Mutex<Option<u64>>>,
    due: Option<Instant>,
}

/// How often; a measurement costs a few milliseconds.
const WRITES_LAST: Duration = Duration::from_secs(20);

/// So much memory is moved in no time.
const LITTLE: u64 = 16 << 20;

impl Writes {
    /// What was measured last. Where that was long ago, a measurement is begun.
    fn rate(&mut self, pid: Option<i32>, memory_bytes: u64, processes: Option<u32>) -> Option<u64> {
        let (Some(pid), Some(1), true) = (pid, processes, memory_bytes > LITTLE) else { return None };
        let measured = *self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        if self.due.is_none_or(|due| due <= Instant::now()) {
            self.due = Some(Instant::now() + WRITES_LAST);
            let kept = Arc::clone(&self.measured);
            // Who is measured may end or be moved meanwhile: then there is nothing to keep.
            tokio::task::spawn_blocking(move || {
                let rate = crate::memory::written_bytes_per_s(pid);
                *kept.lock().unwrap_or_else(PoisonError::into_inner) = rate;
            });
        }
        measured
    }
}

fn of_cgroup(cgroups: &Cgroups, group: &Membership) -> Option<Usage> {
    let cpu = cgroups.cpu_usage(group)?;
    let memory_bytes = cgroups.memory_used(group).unwrap_or_else(|| cgroups.resident_private(group));
    Some(Usage { cpu, memory_bytes })
}
