//! What a migration is expected to cost.

use crate::feasibility::Context;
use crate::model::Workload;
use crate::plan::Expected;
use crate::score::round;

/// What stop-and-copy takes beside the transfer: freeze, dump and restore of a small container, as measured.
const FREEZE_AND_RESTORE_MS: f64 = 350.0;

impl Context<'_, '_> {
    /// Stop-and-copy ships all memory while the workload stands still.
    pub(crate) fn expected(&self, workload: &Workload, source: usize, destination: usize) -> Expected {
        let bytes = workload.memory_bytes;
        let bandwidth = self.projection.bandwidth_mbps(source, destination);
        let transfer_s = bandwidth.map(|mbps| bytes as f64 * 8.0 / (mbps * 1e6)).filter(|s| s.is_finite());
        let downtime_ms = transfer_s.map(|s| (FREEZE_AND_RESTORE_MS + s * 1000.0).ceil() as u64);
        Expected { downtime_ms, transfer_s: transfer_s.map(round), bytes }
    }

    /// The longest downtime that the workload bears.
    pub(crate) fn downtime_budget_ms(&self, workload: &Workload) -> u64 {
        workload.max_downtime_ms.unwrap_or(self.policy.max_downtime_ms)
    }
}
