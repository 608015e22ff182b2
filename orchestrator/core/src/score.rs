//! Where a workload runs best.
//!
//! The thesis (section 4.6) names the factors: CPU utilization and delay first, then distance between nodes, current
//! workload and pending processes, memory, device configuration, processing capability, temperature. It gives no
//! formula, so this is ours, kept so simple that a person can redo it with the numbers of a decision:
//!
//! ```text
//! score = Σ value(factor) × weight(factor) / Σ weight          0 (worst) to 1 (best)
//!
//! cpu          1 − utilization of the destination with the workload on it
//! delay        1 − ln(rtt / best) / ln(worst / best)           best 0.2 ms → 1, worst 300 ms → 0 (delay.best_ms, .worst_ms)
//! distance     1 − ln(1 + km) / ln(1 + 20 000)                 the same place → 1, the antipodes → 0
//! memory       1 − memory in use with the workload on it
//! run_queue    1 / (1 + waiting tasks per core)
//! pressure     1 − the highest of cpu, memory and io pressure
//! temperature  30 °C → 1, 90 °C → 0, straight in between
//! capability   s / (1 + s)                                     s = speed of a core; 1 → 0.5, 2 → 0.67
//! ```
//!
//! Delay is logarithmic because it ranges over three orders of magnitude and what counts is the ratio: from 2 to 4 ms is
//! as much of a change as from 100 to 200 ms. With the default weights, twice the delay (0.024) weighs as much as 6
//! percentage points of CPU. In the thesis's case D is 5 points idler than C (0.02) but 40 times farther away (0.13).
//!
//! What nobody has measured is neither good nor bad (0.5), except a delay: it counts as `delay.unknown_ms`, because a
//! node is likelier not to answer when it is far away.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::constraint::{Broken, wishes};
use crate::model::{Position, Workload};
use crate::policy::Policy;
use crate::projection::{Load, Projection, Share};

/// What it costs a node that the workload left it lately: to and fro wins nobody anything.
const BACK: f64 = 0.3;
const CAME_FROM: &str = "not back to where it came from";

/// What is weighed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FactorName {
    /// CPU utilization of the destination once the workload is there.
    Cpu,
    /// Round-trip time from the source.
    Delay,
    /// Way over ground from the source.
    Distance,
    /// Memory in use on the destination once the workload is there.
    Memory,
    /// Tasks running or waiting per core.
    RunQueue,
    /// The highest of CPU, memory and io pressure.
    Pressure,
    /// Temperature.
    Temperature,
    /// Speed of one core.
    Capability,
}

impl FactorName {
    /// Every factor, in the order of the thesis.
    pub const ALL: [Self; 8] = [
        Self::Cpu,
        Self::Delay,
        Self::Distance,
        Self::RunQueue,
        Self::Memory,
        Self::Pressure,
        Self::Capability,
        Self::Temperature,
    ];

    /// The word that the API and the policy use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Delay => "delay",
            Self::Distance => "distance",
            Self::Memory => "memory",
            Self::RunQueue => "run_queue",
            Self::Pressure => "pressure",
            Self::Temperature => "temperature",
            Self::Capability => "capability",
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Cpu | Self::Memory | Self::Pressure => "fraction",
            Self::Delay => "ms",
            Self::Distance => "km",
            Self::RunQueue => "tasks per core",
            Self::Temperature => "°C",
            Self::Capability => "× a reference core",
        }
    }
}

/// One factor of a score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Factor {
    /// What was measured or projected; null if nobody knows.
    pub raw: Option<f64>,
    /// The unit of `raw`: `fraction`, `ms`, `km`, `tasks per core`, `°C` or `× a reference core`.
    pub unit: Cow<'static, str>,
    /// How good that is, 0 (worst) to 1 (best).
    pub value: f64,
    /// The policy's weight as a share of all weights, 0 to 1.
    pub weight: f64,
    /// `value × weight`.
    pub contribution: f64,
}

/// How well a destination suits a workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// The sum of all contributions without the penalties, 0 (worst) to 1 (best).
    pub total: f64,
    /// Every factor.
    pub factors: BTreeMap<FactorName, Factor>,
    /// The wishes of the policy that it breaks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub penalties: Vec<Penalty>,
}

/// A wish of the policy that a destination breaks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Penalty {
    /// The constraint's name.
    pub constraint: String,
    /// What it costs the score, 0 to 1.
    pub weight: f64,
}

/// The policy's weights as shares of their sum, in the order of [`FactorName::ALL`].
pub(crate) fn weights(policy: &Policy) -> [f64; 8] {
    let sum: f64 = FactorName::ALL.iter().map(|factor| policy.weights.of(*factor)).sum();
    FactorName::ALL.map(|name| if sum > 0.0 { policy.weights.of(name) / sum } else { 0.0 })
}

/// What was measured or projected of `destination` for a workload that comes from `source`; `after` is its load with it.
fn raw(name: FactorName, projection: &Projection<'_>, source: usize, at: usize, after: Load) -> Option<f64> {
    let destination = projection.node(at);
    let raw = match name {
        FactorName::Cpu => after.cpu,
        FactorName::Delay => projection.rtt_ms(source, at),
        FactorName::Distance => {
            projection.node(source).position.zip(destination.position).map(|(a, b)| kilometres(a, b))
        }
        FactorName::Memory => after.memory,
        FactorName::RunQueue => destination.run_queue.map(|tasks| tasks / destination.cpus),
        FactorName::Pressure => destination.pressure.map(|stall| stall.cpu.max(stall.memory).max(stall.io)),
        FactorName::Temperature => destination.temperature_c,
        FactorName::Capability => Some(destination.cpu_score),
    };
    raw.filter(|raw| raw.is_finite())
}

/// The score as a number only: what [`score`] gives, without saying what it is made of.
pub(crate) fn total(
    projection: &Projection<'_>,
    workload: &Workload,
    source: usize,
    at: usize,
    after: Load,
    policy: &Policy,
) -> f64 {
    let term =
        |(name, weight): (FactorName, f64)| value(name, raw(name, projection, source, at, after), policy) * weight;
    let sum = FactorName::ALL.into_iter().zip(projection.weights).map(term).fold(0.0, |sum, term| sum + term);
    let penalty: f64 = wishes(projection, policy, workload, source, at).map(|broken| broken.weight).sum();
    let back = if projection.came_from(workload, at, policy) { BACK } else { 0.0 };
    round((sum - penalty - back).max(0.0))
}

/// The most that `at` can score for any workload, without what the way there adds.
pub(crate) fn bound(projection: &Projection<'_>, at: usize, policy: &Policy) -> f64 {
    let load = projection.load(at);
    let term = |(name, weight): (FactorName, f64)| match name {
        FactorName::Delay | FactorName::Distance => 0.0,
        _ => value(name, raw(name, projection, at, at, load), policy) * weight,
    };
    FactorName::ALL.into_iter().zip(projection.weights).map(term).sum()
}

/// The most that the way to a node can add to its score when no link leads there.
pub(crate) fn unknown_way(projection: &Projection<'_>, policy: &Policy) -> f64 {
    let term = |(name, weight): (FactorName, f64)| match name {
        // A coordinate may tell that it is next door.
        FactorName::Delay if projection.has_coordinates() => weight,
        FactorName::Delay => value(name, None, policy) * weight,
        FactorName::Distance => weight,
        _ => 0.0,
    };
    FactorName::ALL.into_iter().zip(projection.weights).map(term).sum()
}

/// How much of the score a workload costs a node at least, that takes at least this share of it.
pub(crate) fn least_cost(projection: &Projection<'_>, share: Share) -> f64 {
    let term = |(name, weight): (FactorName, f64)| match name {
        FactorName::Cpu => share.cpu * weight,
        FactorName::Memory => share.memory * weight,
        _ => 0.0,
    };
    FactorName::ALL.into_iter().zip(projection.weights).map(term).sum()
}

/// The score of `at` for a workload that comes from `source`; `after` is its load with the workload.
pub(crate) fn score(
    projection: &Projection<'_>,
    workload: &Workload,
    source: usize,
    at: usize,
    after: Load,
    policy: &Policy,
) -> Score {
    let mut total = 0.0;
    let mut factors = BTreeMap::new();
    for (name, weight) in FactorName::ALL.into_iter().zip(projection.weights) {
        let raw = raw(name, projection, source, at, after);
        let value = value(name, raw, policy);
        total += value * weight;
        let factor = Factor {
            raw: raw.map(round),
            unit: Cow::Borrowed(name.unit()),
            value: round(value),
            weight: round(weight),
            contribution: round(value * weight),
        };
        factors.insert(name, factor);
    }
    let broken = |broken: Broken<'_>| Penalty { constraint: broken.name.to_owned(), weight: broken.weight };
    let mut penalties: Vec<Penalty> = wishes(projection, policy, workload, source, at).map(broken).collect();
    if projection.came_from(workload, at, policy) {
        penalties.push(Penalty { constraint: CAME_FROM.to_owned(), weight: BACK });
    }
    let penalty: f64 = penalties.iter().map(|penalty| penalty.weight).sum();
    Score { total: round((total - penalty).max(0.0)), factors, penalties }
}

fn value(name: FactorName, raw: Option<f64>, policy: &Policy) -> f64 {
    let raw = match (name, raw) {
        (_, Some(raw)) => raw,
        (FactorName::Delay, None) => policy.delay.unknown_ms,
        (_, None) => return 0.5,
    };
    let value = match name {
        FactorName::Cpu | FactorName::Memory | FactorName::Pressure => 1.0 - raw,
        FactorName::Delay => {
            let (best, worst) = (policy.delay.best_ms, policy.delay.worst_ms);
            1.0 - (raw.max(best) / best).ln() / (worst / best).ln()
        }
        FactorName::Distance => 1.0 - (1.0 + raw).ln() / 20_001f64.ln(),
        FactorName::RunQueue => 1.0 / (1.0 + raw.max(0.0)),
        FactorName::Temperature => (90.0 - raw) / 60.0,
        FactorName::Capability => raw / (1.0 + raw),
    };
    if value.is_finite() { value.clamp(0.0, 1.0) } else { 0.0 }
}

/// The way over ground (haversine).
fn kilometres(a: Position, b: Position) -> f64 {
    let (lat_a, lat_b) = (a.lat.to_radians(), b.lat.to_radians());
    let (half_lat, half_lon) = ((lat_b - lat_a) / 2.0, (b.lon - a.lon).to_radians() / 2.0);
    let h = half_lat.sin().powi(2) + lat_a.cos() * lat_b.cos() * half_lon.sin().powi(2);
    2.0 * 6371.0 * h.sqrt().min(1.0).asin()
}

/// Four digits are more than anyone measures, and make a decision legible.
pub(crate) fn round(value: f64) -> f64 {
    let rounded = (value * 10_000.0).round() / 10_000.0;
    if rounded == 0.0 { 0.0 } else { rounded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delay_is_sane_from_a_lan_to_another_continent() {
        let policy = Policy::default();
        let value = |rtt| (value(FactorName::Delay, Some(rtt), &policy) * 100.0).round() / 100.0;
        assert_eq!([0.0, 0.2, 2.0, 20.0, 80.0, 300.0, 5000.0].map(value), [1.0, 1.0, 0.69, 0.37, 0.18, 0.0, 0.0]);
    }

    #[test]
    fn no_value_leaves_0_to_1() {
        let policy = Policy::default();
        for name in FactorName::ALL {
            for raw in [None, Some(-1e300), Some(-1.0), Some(0.0), Some(0.5), Some(1e300), Some(f64::MIN_POSITIVE)] {
                let value = value(name, raw, &policy);
                assert!((0.0..=1.0).contains(&value), "{name:?} {raw:?} {value}");
            }
        }
    }

    #[test]
    fn turku_to_helsinki_is_150_km() {
        let turku = Position { lat: 60.45, lon: 22.27 };
        let helsinki = Position { lat: 60.17, lon: 24.94 };
        assert_eq!(kilometres(turku, helsinki).round(), 150.0);
    }
}
