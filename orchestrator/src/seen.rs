//! A workload's newest report as it is kept: a hundred thousand of them are, so texts that many have in common are there
//! once.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use fog_api::agent::WorkloadSample;
use fog_api::workload::WorkloadState;
use fog_core::model::Labels;
use fog_core::policy::Policy;

/// What [`WorkloadSample`] says, without its name.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Docker's container id.
    pub container: Box<str>,
    /// The image's name.
    pub image: Arc<str>,
    /// What Docker says it does.
    pub state: WorkloadState,
    /// Cores used.
    pub cpus: f64,
    /// Memory used.
    pub memory_bytes: u64,
    /// What its files take of the disk, if that was measured.
    pub disk_bytes: Option<u64>,
    /// How fast it changes its memory, if that was measured.
    pub dirty_bytes_per_s: Option<u64>,
    /// How many processes it has.
    pub processes: Option<u32>,
    /// CPU limit in cores, if any.
    pub cpus_limit: Option<f64>,
    /// Memory limit, if any.
    pub memory_limit_bytes: Option<u64>,
    /// Its labels that begin with `fogshift.`.
    pub labels: Labels,
    /// Why it cannot be moved.
    pub obstacles: Vec<String>,
    /// Folders of the host that are mounted in it.
    pub bind_mounts: Vec<String>,
}

impl Seen {
    /// Everything that keeps it from being moved under this policy.
    pub fn obstacles(&self, policy: &Policy) -> Vec<String> {
        let bound = self.bind_mounts.iter().filter_map(|path| policy.files.obstacle(path));
        self.obstacles.iter().cloned().chain(bound).collect()
    }

    /// The first report.
    pub fn new(sample: WorkloadSample, common: &mut Common) -> Self {
        Self {
            container: sample.container.into(),
            image: common.image(&sample.image),
            state: sample.state,
            cpus: sample.cpus,
            memory_bytes: sample.memory_bytes,
            disk_bytes: sample.disk_bytes,
            dirty_bytes_per_s: sample.dirty_bytes_per_s,
            processes: sample.processes,
            cpus_limit: sample.cpus_limit,
            memory_limit_bytes: sample.memory_limit_bytes,
            labels: common.labels(sample.labels),
            obstacles: sample.obstacles,
            bind_mounts: sample.bind_mounts,
        }
    }

    /// A further report; texts that have not changed stay where they are.
    pub fn update(&mut self, sample: WorkloadSample, common: &mut Common) {
        if *self.container != *sample.container {
            self.container = sample.container.into();
        }
        if *self.image != *sample.image {
            self.image = common.image(&sample.image);
        }
        if *self.labels != sample.labels {
            self.labels = common.labels(sample.labels);
        }
        if self.obstacles != sample.obstacles {
            self.obstacles = sample.obstacles;
        }
        if self.bind_mounts != sample.bind_mounts {
            self.bind_mounts = sample.bind_mounts;
        }
        self.state = sample.state;
        self.cpus = sample.cpus;
        self.memory_bytes = sample.memory_bytes;
        self.disk_bytes = sample.disk_bytes;
        self.dirty_bytes_per_s = sample.dirty_bytes_per_s;
        self.processes = sample.processes;
        self.cpus_limit = sample.cpus_limit;
        self.memory_limit_bytes = sample.memory_limit_bytes;
    }
}

/// Texts that several workloads have.
#[derive(Debug, Default)]
pub struct Common {
    images: HashSet<Arc<str>>,
    labels: HashSet<Labels>,
    /// At this many, those that nobody has any more are forgotten.
    sweep_at: usize,
}

impl Common {
    fn image(&mut self, image: &str) -> Arc<str> {
        self.sweep();
        if let Some(known) = self.images.get(image) {
            return Arc::clone(known);
        }
        let fresh: Arc<str> = image.into();
        self.images.insert(Arc::clone(&fresh));
        fresh
    }

    fn labels(&mut self, labels: BTreeMap<String, String>) -> Labels {
        self.sweep();
        let labels = Labels::from(labels);
        match self.labels.get(&labels) {
            Some(known) => known.clone(),
            None => {
                self.labels.insert(labels.clone());
                labels
            }
        }
    }

    fn sweep(&mut self) {
        if self.images.len() + self.labels.len() >= self.sweep_at.max(1024) {
            self.images.retain(|image| Arc::strong_count(image) > 1);
            self.labels.retain(Labels::is_shared);
            self.sweep_at = 2 * (self.images.len() + self.labels.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_is_there_once_and_what_nobody_has_is_forgotten() {
        let mut common = Common::default();
        let (one, other) = (common.image("redis:7"), common.image("redis:7"));
        assert!(Arc::ptr_eq(&one, &other));
        for number in 0..5000 {
            common.image(&format!("image:{number}"));
            common.labels([("fogshift.group".to_owned(), number.to_string())].into());
        }
        assert!(common.images.len() + common.labels.len() < 2100);
        assert!(Arc::ptr_eq(&one, &common.image("redis:7")));
    }
}
