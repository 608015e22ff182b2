//! CPU: cores used by the node, from counters that only grow.

use std::time::{Duration, Instant};

use procfs::{CurrentSI, KernelStats};

use super::cgroup::{Cgroups, Membership};
use crate::config::Scope;

/// Turns a growing CPU time counter into cores used since the last look.
#[derive(Debug, Default)]
pub(super) struct CpuCounter {
    last: Option<(Instant, Duration)>,
}

impl CpuCounter {
    /// Cores used since the last call; `None` at the first one, and when the counter was reset.
    pub(super) fn advance(&mut self, at: Instant, usage: Duration) -> Option<f64> {
        let (then, before) = self.last.replace((at, usage))?;
        let wall = at.checked_duration_since(then).filter(|wall| !wall.is_zero())?;
        Some(usage.checked_sub(before)?.as_secs_f64() / wall.as_secs_f64())
    }
}

/// Measures the node's CPU use.
#[derive(Debug)]
pub(super) struct CpuMeter {
    scope: Scope,
    machine_cores: f64,
    cgroup: CpuCounter,
    ticks: Option<Ticks>,
}

impl CpuMeter {
    /// A meter for the scope.
    pub(super) fn new(scope: Scope) -> Self {
        Self { scope, machine_cores: machine_cores(), cgroup: CpuCounter::default(), ticks: None }
    }

    /// Cores used since the last call, 0 at the first.
    pub(super) fn cores_used(&mut self, at: Instant, cgroups: &Cgroups, stat: Option<&KernelStats>) -> f64 {
        if self.scope == Scope::Cgroup
            && let Some(usage) = cgroups.cpu_usage(&Membership::root())
        {
            return self.cgroup.advance(at, usage).unwrap_or(0.0);
        }
        let Some(now) = stat.map(Ticks::of) else { return 0.0 };
        self.ticks.replace(now).map_or(0.0, |before| now.busy_since(before) * self.machine_cores)
    }
}

/// Cores the node may use: what the operator says, the cgroup's quota, the machine.
pub(super) fn usable_cores(scope: Scope, configured: Option<f64>, cgroups: &Cgroups) -> f64 {
    let quota = match scope {
        Scope::Host => None,
        Scope::Cgroup => cgroups.cpu_quota(&Membership::root()),
    };
    let available = match scope {
        Scope::Host => machine_cores(),
        Scope::Cgroup => cores_of_this_process().min(machine_cores()),
    };
    configured.unwrap_or_else(|| quota.unwrap_or(available).min(available))
}

fn machine_cores() -> f64 {
    KernelStats::current().map_or(1.0, |stat| stat.cpu_time.len().max(1) as f64)
}

/// The affinity mask follows the cpuset and, unlike `available_parallelism`, ignores quotas.
fn cores_of_this_process() -> f64 {
    rustix::thread::sched_getaffinity(None).map_or(f64::INFINITY, |set| f64::from(set.count()))
}

#[derive(Debug, Clone, Copy)]
struct Ticks {
    busy: u64,
    all: u64,
}

impl Ticks {
    fn of(stat: &KernelStats) -> Self {
        let cpu = &stat.total;
        let idle = cpu.idle + cpu.iowait.unwrap_or(0);
        // Stolen time counts as busy: the node cannot use it. Guest time is part of user time already.
        let busy =
            cpu.user + cpu.nice + cpu.system + cpu.irq.unwrap_or(0) + cpu.softirq.unwrap_or(0) + cpu.steal.unwrap_or(0);
        Self { busy, all: busy + idle }
    }

    /// Busy fraction. Idle and iowait may step back a little, hence the saturation.
    fn busy_since(self, before: Self) -> f64 {
        let all = self.all.saturating_sub(before.all);
        if all == 0 { 0.0 } else { (self.busy.saturating_sub(before.busy) as f64 / all as f64).min(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use procfs::FromBufReadSI;

    use super::*;

    #[test]
    fn a_counter_gives_cores() {
        let mut counter = CpuCounter::default();
        let start = Instant::now();
        assert_eq!(counter.advance(start, Duration::from_secs(100)), None);
        let cores = counter.advance(start + Duration::from_secs(2), Duration::from_secs(101)).expect("second look");
        assert!((cores - 0.5).abs() < 1e-9);
        assert_eq!(counter.advance(start + Duration::from_secs(3), Duration::from_secs(1)), None, "reset");
        assert_eq!(counter.advance(start + Duration::from_secs(3), Duration::from_secs(2)), None, "no time passed");
    }

    fn stat(user: u64, idle: u64, iowait: u64, steal: u64) -> Ticks {
        let text = format!(
            "cpu  {user} 0 0 {idle} {iowait} 0 0 {steal} 0 0\ncpu0 {user} 0 0 {idle} {iowait} 0 0 {steal} 0 0\n\
             ctxt 1\nbtime 1\nprocesses 1\nprocs_running 3\nprocs_blocked 0\n"
        );
        Ticks::of(&KernelStats::from_buf_read(text.as_bytes(), &procfs::LocalSystemInfo).expect("parses"))
    }

    #[test]
    fn proc_stat() {
        let (before, after) = (stat(100, 1000, 100, 0), stat(150, 1030, 110, 10));
        assert!((after.busy_since(before) - 0.6).abs() < 1e-9);
        assert_eq!(before.busy_since(before), 0.0);
    }
}
