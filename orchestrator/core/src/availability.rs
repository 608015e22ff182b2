//! Availability of a node, from nothing but its last heartbeat.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::Heartbeat;

/// Whether a node can be counted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Availability {
    /// Heartbeats come as they should.
    #[default]
    Active,
    /// Heartbeats are late: nothing new is placed here, nothing is concluded yet.
    Suspect,
    /// No heartbeat for long, or none ever.
    Offline,
}

impl Availability {
    /// The word that the API and the command line use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspect => "suspect",
            Self::Offline => "offline",
        }
    }
}

impl std::fmt::Display for Availability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The availability of a node whose last heartbeat was *received* at `last_heartbeat` (by the orchestrator's clock;
/// `None`: never). A node never seen is offline: nobody knows that it can run anything. A heartbeat from the future
/// means that the clock stepped back, which is no fault of the node, so it is active.
pub fn availability(last_heartbeat: Option<Timestamp>, now: Timestamp, policy: &Heartbeat) -> Availability {
    let Some(last) = last_heartbeat else {
        return Availability::Offline;
    };
    let silent = now.duration_since(last);
    if silent >= seconds(policy.offline_s) {
        Availability::Offline
    } else if silent >= seconds(policy.suspect_s) {
        Availability::Suspect
    } else {
        Availability::Active
    }
}

/// A duration from seconds; what is no sensible number becomes the nearest one that is.
pub(crate) fn seconds(value: f64) -> SignedDuration {
    SignedDuration::try_from_secs_f64(value.clamp(0.0, 1e9)).unwrap_or(SignedDuration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_makes_a_node_suspect_then_offline() {
        let policy = Heartbeat { interval_s: 2.0, suspect_s: 6.0, offline_s: 20.0 };
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().expect("a time");
        let after = |s: f64| availability(Some(now - seconds(s)), now, &policy);
        assert_eq!(after(0.0), Availability::Active);
        assert_eq!(after(5.999), Availability::Active);
        assert_eq!(after(6.0), Availability::Suspect);
        assert_eq!(after(19.999), Availability::Suspect);
        assert_eq!(after(20.0), Availability::Offline);
        assert_eq!(availability(None, now, &policy), Availability::Offline);
        assert_eq!(availability(Some(now + seconds(3600.0)), now, &policy), Availability::Active);
        assert_eq!(availability(Some(Timestamp::MIN), Timestamp::MAX, &policy), Availability::Offline);
    }
}
