//! When a node is overloaded.

use serde::{Deserialize, Serialize};

use crate::model::Node;
use crate::policy::{Policy, Threshold};
use crate::telemetry::sustained;

/// What a node can suffer from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Sustained CPU utilization, 0 to 1.
    Cpu,
    /// Memory in use, 0 to 1.
    Memory,
    /// The higher of memory and io pressure, 0 to 1. Waiting for a core is what the CPU utilization already says.
    Pressure,
    /// Temperature in °C.
    TemperatureC,
}

/// One way in which a node is overloaded.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overload {
    /// What it suffers from.
    pub metric: Metric,
    /// What was measured, in the metric's unit.
    pub value: f64,
    /// The policy's thresholds for it.
    pub threshold: Threshold,
}

impl Overload {
    /// How far beyond the threshold, as a ratio of 1 or more; comparable between metrics.
    pub fn severity(&self) -> f64 {
        self.value / self.threshold.start
    }
}

impl Metric {
    /// Every metric.
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Memory, Self::Pressure, Self::TemperatureC];

    /// The thresholds for it.
    pub fn threshold(self, policy: &Policy) -> Threshold {
        match self {
            Self::Cpu => policy.overload.cpu,
            Self::Memory => policy.overload.memory,
            Self::Pressure => policy.overload.pressure,
            Self::TemperatureC => policy.overload.temperature_c,
        }
    }

    /// What was measured on a node; `None` if nothing was, or for CPU, not yet for long enough.
    pub fn measure(self, node: &Node, policy: &Policy) -> Option<f64> {
        let value = match self {
            Self::Cpu if (1..samples(policy)).contains(&node.cpu_window.len()) => None,
            Self::Cpu => cpu(node, policy),
            Self::Memory => node.memory,
            Self::Pressure => node.pressure.map(|stall| stall.memory.max(stall.io)),
            Self::TemperatureC => node.temperature_c,
        };
        value.filter(|value| value.is_finite())
    }
}

/// The best guess at a node's CPU utilization, 0 to 1, also from a window that is not full yet.
pub fn cpu(node: &Node, policy: &Policy) -> Option<f64> {
    sustained(&node.cpu_window, samples(policy)).or(node.cpu).filter(|value| value.is_finite())
}

/// Everything that a node suffers from, the worst first; empty if it is not overloaded.
pub fn overloads(node: &Node, policy: &Policy) -> Vec<Overload> {
    let mut found: Vec<Overload> = Metric::ALL
        .into_iter()
        .filter_map(|metric| {
            let threshold = metric.threshold(policy);
            let value = metric.measure(node, policy)?;
            (value >= threshold.start).then_some(Overload { metric, value, threshold })
        })
        .collect();
    found.sort_by(|a, b| b.severity().total_cmp(&a.severity()).then(a.metric.cmp(&b.metric)));
    found
}

fn samples(policy: &Policy) -> usize {
    usize::try_from(policy.sampling.window).unwrap_or(usize::MAX).max(1)
}
