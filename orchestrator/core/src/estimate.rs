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
use crate::model::{Earlier, Workload};
use crate::plan::{Expected, post_copy_allowed};
use crate::score::round;
use crate::strategy::{Facts, Strategy};

/// So many of the last migrations say how far a prediction is off.
const LEARNS_FROM: usize = 5;

/// A prediction is corrected by at most this factor, up or down: what took longer was often somebody else's load.
const MOST_OFF: f64 = 4.0;

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
    /// What the choice of a strategy for this move depends on.
    pub(crate) fn facts(&self, workload: &Workload, source: usize, destination: usize) -> Facts {
        let measured = self.projection.bandwidth_mbps(source, destination);
        Facts {
            memory_bytes: workload.memory_bytes,
            processes: workload.processes,
            dirty_bytes_per_s: workload.dirty_bytes_per_s,
            mbps: measured.unwrap_or(self.policy.cost.unknown_mbps),
            max_downtime_ms: self.downtime_budget_ms(workload),
            post_copy: post_copy_allowed(workload, self.policy),
        }
    }

    /// What the move is likely to take with this strategy, or with the one that is picked: as predicted, times how far
    /// predictions for this workload were off. Files travel while it runs.
    pub(crate) fn estimate(
        &self,
        workload: &Workload,
        source: usize,
        destination: usize,
        strategy: Strategy,
    ) -> Estimate {
        let facts = self.facts(workload, source, destination);
        let strategy = if strategy == Strategy::Auto { facts.pick() } else { strategy };
        let predicted = facts.predict(strategy);
        let (slower, more) = self.learned(workload, source, destination, strategy, facts);
        let bytes = predicted.bytes * more + workload.disk_bytes as f64;
        let measured = self.projection.bandwidth_mbps(source, destination).is_some();
        Estimate {
            downtime_ms: (predicted.downtime_ms * slower).ceil() as u64,
            transfer_s: bytes * 8.0 / (facts.mbps * 1e6),
            assumed_mbps: (!measured).then_some(facts.mbps),
            bytes: bytes as u64,
        }
    }

    /// How many times longer than predicted this workload's last migrations with this strategy stood still, and how many
    /// times more they sent: those over this link if there are any, else all whose link is measured.
    fn learned(
        &self,
        workload: &Workload,
        source: usize,
        destination: usize,
        strategy: Strategy,
        facts: Facts,
    ) -> (f64, f64) {
        if workload.earlier.is_empty() {
            return (1.0, 1.0);
        }
        let ends = |earlier: &Earlier| {
            Some((self.projection.find(earlier.from.as_str())?, self.projection.find(earlier.to.as_str())?))
        };
        let here = |ends: (usize, usize)| ends == (source, destination) || ends == (destination, source);
        let known =
            workload.earlier.iter().rev().filter(|earlier| earlier.strategy == strategy && earlier.memory_bytes > 0);
        let known: Vec<_> = known
            .filter_map(|earlier| {
                let (from, to) = ends(earlier)?;
                let mbps = self.projection.bandwidth_mbps(from, to)?;
                let then = Facts { memory_bytes: earlier.memory_bytes, mbps, ..facts }.predict(strategy);
                let off = |really: f64, predicted: f64| (really / predicted).clamp(1.0 / MOST_OFF, MOST_OFF).ln();
                Some((
                    here((from, to)),
                    off(earlier.downtime_ms, then.downtime_ms),
                    off(earlier.bytes as f64, then.bytes),
                ))
            })
            .filter(|(_, slower, more)| slower.is_finite() && more.is_finite())
            .collect();
        let same_link = known.iter().any(|(here, ..)| *here);
        let counted = known.iter().filter(|(here, ..)| *here || !same_link).take(LEARNS_FROM);
        let (count, slower, more) =
            counted.fold((0.0, 0.0, 0.0), |(n, a, b), (_, slower, more)| (n + 1.0, a + slower, b + more));
        if count == 0.0 { (1.0, 1.0) } else { ((slower / count).exp(), (more / count).exp()) }
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
