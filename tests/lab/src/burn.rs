//! Load on purpose: keeps a node at a wanted utilization of its own CPU quota.
//!
//! The burner measures the whole node, containers and daemons included, and fills up what is missing: threads alternate
//! between work and sleep, and a controller sets the share of work five times a second. The threads count their own CPU
//! time, not the clock's, so that a busy machine does not make them work less than they should.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::time::{ClockId, clock_gettime};

use crate::node::Node;

const CYCLE: Duration = Duration::from_millis(20);
const INTERVAL: Duration = Duration::from_millis(200);
/// A thread that got no CPU makes up for at most this much of it.
const LARGEST_DEBT: Duration = Duration::from_millis(100);
/// How much of the error is corrected in each interval; below 1, because what is measured lags behind.
const GAIN: f64 = 0.4;
/// Shares of work are passed to the threads in parts of this.
const WHOLE: f64 = 1_000_000.0;

/// Burns until `duration` has passed, or for ever. The calling process must be a member of the node's cgroup.
pub(crate) fn run(node: &Node, utilization: f64, duration: Option<Duration>) -> Result<()> {
    check(utilization)?;
    let processors = thread::available_parallelism().context("cannot count the processors")?.get();
    let quota = node.cpus().unwrap_or(processors as f64).min(processors as f64);
    let threads = (quota.ceil() as usize).clamp(1, processors);
    let duty = Arc::new(AtomicU64::new(0));
    for _ in 0..threads {
        let duty = Arc::clone(&duty);
        thread::spawn(move || work(&duty));
    }
    let start = Instant::now();
    let mut share = utilization * quota / threads as f64;
    let mut before = (Instant::now(), node.cpu_usage()?);
    while duration.is_none_or(|duration| start.elapsed() < duration) {
        duty.store((share * WHOLE) as u64, Ordering::Relaxed);
        sleep(INTERVAL);
        let now = (Instant::now(), node.cpu_usage()?);
        let used = (now.1.saturating_sub(before.1)).as_secs_f64() / (now.0 - before.0).as_secs_f64();
        before = now;
        share = corrected(share, utilization * quota, used, threads);
    }
    Ok(())
}

/// The next share of work of each thread, given what the node used of the CPU and what it should have used. All that is
/// wanted is also the most a share may grow to, so that no surge follows when a starved node gets CPU again.
fn corrected(share: f64, wanted: f64, used: f64, threads: usize) -> f64 {
    (share + GAIN * (wanted - used) / threads as f64).clamp(0.0, wanted / threads as f64)
}

pub(crate) fn check(utilization: f64) -> Result<()> {
    ensure!((0.0..=1.0).contains(&utilization), "a utilization is a fraction from 0 to 1, such as 0.9");
    Ok(())
}

fn work(duty: &AtomicU64) {
    let mut value = 1_u64;
    let mut debt = Duration::ZERO;
    let mut woken = Instant::now();
    loop {
        let passed = woken.elapsed();
        woken = Instant::now();
        debt = (debt + passed.mul_f64(duty.load(Ordering::Relaxed) as f64 / WHOLE)).min(LARGEST_DEBT);
        let before = thread_cpu_time();
        let mut worked = Duration::ZERO;
        while worked < debt {
            for _ in 0..10_000 {
                value = black_box(value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
            }
            worked = thread_cpu_time().saturating_sub(before);
        }
        debt = debt.saturating_sub(worked);
        sleep(CYCLE.saturating_sub(woken.elapsed()));
    }
}

fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_controller_settles_at_what_is_wanted() {
        // The node uses 0.1 CPU of its own; the burner adds its share on one thread.
        let mut share = 0.45;
        for _ in 0..50 {
            share = corrected(share, 0.45, share + 0.1, 1);
        }
        assert!((share - 0.35).abs() < 0.001, "{share}");
    }

    #[test]
    fn a_node_busier_than_wanted_gets_no_load() {
        let share = (0..50).fold(0.5, |share, _| corrected(share, 0.3, share + 0.6, 1));
        assert!(share.abs() < f64::EPSILON);
    }

    #[test]
    fn utilization_is_a_fraction() {
        assert!(check(0.9).is_ok());
        assert!(check(90.0).is_err());
        assert!(check(f64::NAN).is_err());
    }
}
