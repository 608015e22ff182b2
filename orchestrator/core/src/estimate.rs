//! What a migration costs and what it wins, both in seconds of the workload's time.
//!
//! ```text
//! cost     downtime + cost.transfer_weight × transfer      standing still; a little for the work of shipping
//! benefit  gain × cost.horizon_s                           gain: how much less busy its new node is, as a fraction
//! ```
//!
//! A workload that goes from a node at 90 % to one at 20 % wins 0.7 of every second, for as long as the load is likely to
//! stay as it is (the horizon). That is why moving a tiny looper is worth it, although it hardly relieves its node, and
//! why shipping gigabytes over a thin line for a few percentage points isn't.

use crate::feasibility::Context;
use crate::model::Workload;
use crate::plan::Expected;
use crate::score::round;

/// What stop-and-copy takes beside the transfer: freeze, dump and restore of a small container, as measured.
const FREEZE_AND_RESTORE_MS: f64 = 350.0;

/// What a migration is likely to take.
pub(crate) struct Estimate {
    pub(crate) downtime_ms: u64,
    pub(crate) transfer_s: f64,
    /// Mbit/s that were assumed, if nobody has measured the link.
    pub(crate) assumed_mbps: Option<f64>,
    bytes: u64,
}

impl Estimate {
    /// What is told to a person: nothing that rests on an assumption.
    pub(crate) fn expected(&self) -> Expected {
        let known = self.assumed_mbps.is_none();
        Expected {
            downtime_ms: known.then_some(self.downtime_ms),
            transfer_s: known.then_some(round(self.transfer_s)),
            bytes: self.bytes,
        }
    }
}

impl Context<'_, '_> {
    /// Stop-and-copy ships all memory while the workload stands still, however fast it writes to it.
    pub(crate) fn estimate(&self, workload: &Workload, source: usize, destination: usize) -> Estimate {
        let measured = self.projection.bandwidth_mbps(source, destination);
        let mbps = measured.unwrap_or(self.policy.cost.unknown_mbps);
        let transfer_s = workload.memory_bytes as f64 * 8.0 / (mbps * 1e6);
        Estimate {
            downtime_ms: (FREEZE_AND_RESTORE_MS + transfer_s * 1000.0).ceil() as u64,
            transfer_s,
            assumed_mbps: measured.is_none().then_some(mbps),
            bytes: workload.memory_bytes,
        }
    }

    /// Seconds of the workload's time that the migration takes.
    pub(crate) fn cost_s(&self, estimate: &Estimate) -> f64 {
        estimate.downtime_ms as f64 / 1000.0 + self.policy.cost.transfer_weight * estimate.transfer_s
    }

    /// Seconds of the workload's time that this gain wins.
    pub(crate) fn benefit_s(&self, gain: f64) -> f64 {
        gain * self.policy.cost.horizon_s
    }

    /// The longest downtime that the workload bears.
    pub(crate) fn downtime_budget_ms(&self, workload: &Workload) -> u64 {
        workload.max_downtime_ms.unwrap_or(self.policy.max_downtime_ms)
    }
}
