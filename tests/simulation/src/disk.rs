//! The disk below the orchestrator's database: real SQL on a real file, at simulated moments.
//!
//! sqlx gives each connection a thread. That thread works only while the simulation itself has nothing to do, and time
//! does not go on before it waits again (`threads.rs`): so its answers come at the same place in the order of things
//! whatever the machine is busy with. Faults make the disk slow, so that simulated time passes inside a transaction, and
//! end it there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::{clock, threads};

/// See above. There is one in a process.
pub struct Disk {
    /// Orchestrators up to this one are dead: their statements fail.
    dead: AtomicU64,
    /// Nothing gets through before, in nanoseconds of simulated time.
    slow_until: AtomicU64,
}

/// The one disk.
pub static DISK: Disk = Disk { dead: AtomicU64::new(0), slow_until: AtomicU64::new(0) };

impl Disk {
    /// What every step of an orchestrator's statements asks.
    pub fn may_go_on(&'static self, orchestrator: u64) -> impl Fn() -> bool + Clone + Send + Sync + 'static {
        move || self.dead.load(Ordering::Acquire) < orchestrator
    }

    /// An orchestrator died. What it was writing does not get through any more.
    pub fn died(&self, orchestrator: u64) {
        self.dead.store(orchestrator, Ordering::Release);
        self.slow_until.store(0, Ordering::Relaxed);
        threads::run_until_all_wait();
    }

    /// Nothing gets through for a while.
    pub fn slow(&self, pause: Duration) {
        self.slow_until.store((clock::now() + pause).as_nanos() as u64, Ordering::Relaxed);
    }

    /// The simulation has nothing to do: the database works, unless it is slow.
    pub fn work(&self) {
        if self.slow_until.load(Ordering::Relaxed) <= clock::now().as_nanos() as u64 {
            threads::run_until_all_wait();
        }
    }
}
