//! Network coordinates: how far apart any two nodes are, although each measures only a few.
//!
//! Vivaldi (Dabek, Cox, Kaashoek, Morris, SIGCOMM 2004) with the constants and the height of Serf/Consul: every node has
//! a place in a small Euclidean space plus a height, the way from its last mile to the core. Each measured round trip
//! pulls the two places together or pushes them apart, the more the surer the other place is. Milliseconds throughout.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many dimensions the space has.
pub const DIMENSIONS: usize = 4;
/// How fast the error follows what is measured, and how far one measurement moves a place.
const ERROR_SHARE: f64 = 0.25;
const MOVE_SHARE: f64 = 0.25;
const MOST_ERROR: f64 = 1.5;
/// Heights stay above this, so that no node is in the core itself.
const LEAST_HEIGHT_MS: f64 = 0.01;
/// Nothing on one planet is further away; a broken measurement must not throw a place into the void.
const MOST_RTT_MS: f64 = 10_000.0;

/// A node's place.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Coordinate {
    /// In the Euclidean space, in milliseconds.
    pub place: [f64; DIMENSIONS],
    /// Above it, in milliseconds.
    pub height: f64,
    /// How wrong it is likely to be, relative to what is measured: 0 (sure) to 1.5 (no idea).
    pub error: f64,
}

impl Default for Coordinate {
    /// A node of which nothing is known.
    fn default() -> Self {
        Self { place: [0.0; DIMENSIONS], height: LEAST_HEIGHT_MS, error: MOST_ERROR }
    }
}

impl Coordinate {
    /// The expected round trip between two nodes, in milliseconds.
    pub fn rtt_ms(&self, other: &Self) -> f64 {
        length(&self.difference(other)) + (self.height + other.height)
    }

    /// Whether it is worth being asked: it has been measured often enough to be better than a guess.
    pub fn is_known(&self) -> bool {
        self.error < 0.5
    }

    /// The place after a round trip to `other` was measured. Two nodes in the same place are pushed apart along
    /// `direction`, whatever it is; give different ones to different nodes.
    #[must_use]
    pub fn measured(&self, other: &Self, rtt_ms: f64, direction: [f64; DIMENSIONS]) -> Self {
        if !(rtt_ms.is_finite() && rtt_ms > 0.0) {
            return *self;
        }
        let rtt_ms = rtt_ms.min(MOST_RTT_MS);
        let expected = self.rtt_ms(other);
        let wrong = (expected - rtt_ms).abs() / rtt_ms;
        let trust = self.error / (self.error + other.error).max(f64::MIN_POSITIVE);
        let share = ERROR_SHARE * trust;
        let error = (self.error * (1.0 - share) + wrong * share).clamp(0.0, MOST_ERROR);
        let force = MOVE_SHARE * trust * (rtt_ms - expected);
        let difference = self.difference(other);
        let distance = length(&difference);
        let unit = if distance > 1e-6 { difference.map(|part| part / distance) } else { normal(direction) };
        let mut place = self.place;
        for (part, unit) in place.iter_mut().zip(unit) {
            *part += unit * force;
        }
        let mut height = self.height;
        if distance > 1e-6 {
            height =
                ((self.height + other.height) * force / distance + self.height).clamp(LEAST_HEIGHT_MS, MOST_RTT_MS);
        }
        Self { place, height, error }
    }

    fn difference(&self, other: &Self) -> [f64; DIMENSIONS] {
        std::array::from_fn(|at| self.place[at] - other.place[at])
    }
}

fn length(vector: &[f64; DIMENSIONS]) -> f64 {
    vector.iter().map(|part| part * part).sum::<f64>().sqrt()
}

fn normal(vector: [f64; DIMENSIONS]) -> [f64; DIMENSIONS] {
    let length = length(&vector);
    if length.is_finite() && length > 1e-9 {
        vector.map(|part| part / length)
    } else {
        std::array::from_fn(|at| if at == 0 { 1.0 } else { 0.0 })
    }
}
