//! How fast the links were in real transfers.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Less than this says more about latency than about bandwidth.
const TELLING_BYTES: u64 = 256 << 10;

/// Megabits a second to each peer, learned from transfers in either direction.
#[derive(Debug, Default)]
pub struct Bandwidth(Mutex<BTreeMap<String, f64>>);

impl Bandwidth {
    /// Learns from one transfer. The newest counts as much as all before it.
    pub fn learn(&self, peer: &str, bytes: u64, took: Duration) {
        if bytes < TELLING_BYTES || took.is_zero() {
            return;
        }
        let mbps = bytes as f64 * 8.0 / 1e6 / took.as_secs_f64();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(peer.to_owned()).and_modify(|old| *old = (*old + mbps) / 2.0).or_insert(mbps);
    }

    /// What is known.
    pub fn snapshot(&self) -> BTreeMap<String, f64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learns_from_transfers_that_are_large_enough() {
        let bandwidth = Bandwidth::default();
        bandwidth.learn("b", 1000, Duration::from_millis(1));
        assert!(bandwidth.snapshot().is_empty());
        bandwidth.learn("b", 1_250_000, Duration::from_secs(1));
        assert_eq!(bandwidth.snapshot()["b"], 10.0);
        bandwidth.learn("b", 3_750_000, Duration::from_secs(1));
        assert_eq!(bandwidth.snapshot()["b"], 20.0);
    }
}
