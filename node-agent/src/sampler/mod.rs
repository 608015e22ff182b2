//! Samples: what the node and its containers look like at one moment.
//!
//! A sample is always complete. Where something cannot be measured the sampler falls back to the
//! next best source, and only Docker's absence shows, as "nothing known" rather than "no containers".

mod cgroup;
mod containers;
mod cpu;
mod disk;
mod held;
mod memory;
mod network;
mod pressure;
mod run_queue;
mod temperature;

use std::path::{Path, PathBuf};
use std::time::Instant;

use fog_api::agent::{LinkSample, Sample};
use jiff::Timestamp;
use procfs::{Current, CurrentSI, KernelStats, LoadAverage};

pub use self::cgroup::{Cgroups, Layout};
pub use self::disk::Space;
use crate::config::{Config, Scope};
use crate::runtime::Docker;

/// Where Docker keeps its data until the daemon says otherwise.
const DOCKER_DATA: &str = "/var/lib/docker";

/// Takes samples. Rates are relative to the sample before.
#[derive(Debug)]
pub struct Sampler {
    scope: Scope,
    configured_cpus: Option<f64>,
    configured_memory: Option<u64>,
    cgroups: Cgroups,
    cpu: cpu::CpuMeter,
    network: network::NetworkMeter,
    thermometer: temperature::Thermometer,
    containers: containers::ContainerMeter,
    docker: Docker,
    docker_data: Option<PathBuf>,
}

/// What the node may use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Capacity {
    /// Cores.
    pub cpus: f64,
    /// Memory.
    pub memory_bytes: u64,
}

impl Capacity {
    /// Asks the configuration, the cgroup and the machine, in this order.
    pub fn of(config: &Config, cgroups: &Cgroups) -> Self {
        Self {
            cpus: cpu::usable_cores(config.scope, config.cpus, cgroups),
            memory_bytes: memory::read(config.scope, config.memory_bytes, cgroups).limit_bytes,
        }
    }
}

impl Sampler {
    /// Takes the first look, so that the first sample has rates to tell.
    pub fn new(config: &Config, docker: Docker) -> Self {
        let mut sampler = Self {
            scope: config.scope,
            configured_cpus: config.cpus,
            configured_memory: config.memory_bytes,
            cgroups: Cgroups::detect(),
            cpu: cpu::CpuMeter::new(config.scope),
            network: network::NetworkMeter::default(),
            thermometer: temperature::Thermometer::new(),
            containers: containers::ContainerMeter::new(docker.clone()),
            docker,
            docker_data: None,
        };
        let now = Instant::now();
        sampler.cpu.cores_used(now, &sampler.cgroups, KernelStats::current().ok().as_ref());
        sampler.network.rates(now);
        sampler
    }

    /// Takes a sample. The reporter numbers it.
    pub async fn sample(&mut self, links: Vec<LinkSample>) -> Sample {
        let workloads = self.containers.read(&self.cgroups).await;
        if self.docker_data.is_none() && workloads.is_some() {
            self.docker_data = self.docker.daemon().await.ok().map(|daemon| daemon.data_dir.into());
        }
        let now = Instant::now();
        let at = Timestamp::now();
        let stat = KernelStats::current().ok();
        // A quota may be changed while the agent runs.
        let cpus = cpu::usable_cores(self.scope, self.configured_cpus, &self.cgroups);
        let cores_used = self.cpu.cores_used(now, &self.cgroups, stat.as_ref());
        let traffic = self.network.rates(now);
        Sample {
            seq: 0,
            at,
            cpu: (cores_used / cpus).clamp(0.0, 1.0),
            run_queue: run_queue::length(self.scope, &self.cgroups, stat.as_ref()),
            load1: LoadAverage::current().map_or(0.0, |load| f64::from(load.one)),
            memory: memory::read(self.scope, self.configured_memory, &self.cgroups).fraction(),
            pressure: pressure::read(self.scope, &self.cgroups),
            disk: Space::of(self.docker_data.as_deref().unwrap_or(Path::new(DOCKER_DATA))).map_or(0.0, Space::fraction),
            network_received_bytes_per_s: traffic.received,
            network_sent_bytes_per_s: traffic.sent,
            temperature_c: self.thermometer.hottest_c(),
            workloads,
            links,
        }
    }
}
