//! How late the service is with its own work: the one sign of overload that needs no knowledge of its cause.
//!
//! A task that wants to wake up every [`BEAT`] measures how much later it does. What waits for the store counts too. Reads
//! and batches are turned away while it is late; heartbeats and migrations never are.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const BEAT: Duration = Duration::from_millis(20);
/// Later than this, batches are turned away; heartbeats are to be stored within 50 ms.
const LATE: Duration = Duration::from_millis(40);
/// And reads.
const VERY_LATE: Duration = Duration::from_millis(150);

/// So many reads and batches are worked on at once.
const READS: usize = 64;
const BATCHES: usize = 2;

/// The newest measurements.
#[derive(Debug)]
pub struct Pulse {
    late_us: AtomicU64,
    reads: Semaphore,
    batches: Semaphore,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { late_us: AtomicU64::new(0), reads: Semaphore::new(READS), batches: Semaphore::new(BATCHES) }
    }
}

/// What can be turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Samples that somebody brings for others: they can come again.
    Batch,
    /// A read by a person or program.
    Read,
}

impl Pulse {
    /// Measures until the shutdown.
    pub async fn beat(&self, shutdown: &CancellationToken) {
        while !shutdown.is_cancelled() {
            let begin = Instant::now();
            tokio::time::sleep(BEAT).await;
            self.felt(begin.elapsed().saturating_sub(BEAT));
        }
    }

    /// Something was so late. Rises at once, and falls by a tenth each beat: a single hiccup is soon forgotten, and
    /// what was turned away does not all come back at once.
    fn felt(&self, late: Duration) {
        let late = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        let before = self.late_us.load(Ordering::Relaxed);
        self.late_us.store(late.max(before - before / 10), Ordering::Relaxed);
    }

    /// How late it is.
    pub fn late(&self) -> Duration {
        Duration::from_micros(self.late_us.load(Ordering::Relaxed))
    }

    /// Lets a piece of work in, until the permit is dropped; `None`: it is to be turned away.
    pub fn admit(&self, work: Work) -> Option<SemaphorePermit<'_>> {
        if self.sheds(work) {
            return None;
        }
        match work {
            Work::Batch => self.batches.try_acquire().ok(),
            Work::Read => self.reads.try_acquire().ok(),
        }
    }

    fn sheds(&self, work: Work) -> bool {
        self.late() > if work == Work::Batch { LATE } else { VERY_LATE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_at_once_sheds_batches_before_reads_and_recovers_by_itself() {
        let pulse = Pulse::default();
        assert!(!pulse.sheds(Work::Batch));
        pulse.felt(Duration::from_millis(100));
        assert!(pulse.sheds(Work::Batch) && !pulse.sheds(Work::Read));
        pulse.felt(Duration::from_millis(200));
        assert!(pulse.sheds(Work::Read));
        let beats = (0..200).take_while(|_| {
            pulse.felt(Duration::ZERO);
            pulse.sheds(Work::Batch)
        });
        let beats = beats.count();
        assert!((5..50).contains(&beats), "{beats}");
    }
}
