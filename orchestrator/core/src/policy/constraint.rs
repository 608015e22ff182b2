//! Where some workloads may or should run, and when nothing moves: the parts of a policy that are lists.

use std::collections::BTreeMap;

use jiff::civil::{Time, Weekday};
use jiff::{Timestamp, tz::TimeZone};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{Node, Workload};

/// A rule about where some workloads may run, or a wish about where they should. Everything it says must hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Constraint {
    /// What a decision calls it; unique.
    pub name: String,
    /// The workloads that it is about: those that have all of these labels. Default: every workload.
    #[serde(default)]
    pub workloads: BTreeMap<String, String>,
    /// Whether it is a rule (true) or a wish (false). Default: true.
    #[serde(default = "yes")]
    pub hard: bool,
    /// What breaking a wish costs a node's score, 0 to 1. Default: 0.2.
    #[serde(default = "fifth")]
    pub weight: f64,
    /// Only nodes of one of these tiers. Default: any.
    #[serde(default)]
    pub tiers: Vec<String>,
    /// Only nodes at one of these sites. Default: any.
    #[serde(default)]
    pub sites: Vec<String>,
    /// Only nodes that have all of these labels. Default: any.
    #[serde(default)]
    pub node_labels: BTreeMap<String, String>,
    /// Only nodes whose CPU has all of these features. Default: any.
    #[serde(default)]
    pub cpu_features: Vec<String>,
    /// They stay within their tier (only horizontal moves) or their site. Default: they may leave.
    #[serde(default)]
    pub within: Option<Scope>,
    /// They want one another's company on a node, in a tier or at a site. Default: they don't care.
    #[serde(default)]
    pub together: Option<Scope>,
    /// They keep away from one another on a node, in a tier or at a site. Default: they don't care.
    #[serde(default)]
    pub apart: Option<Scope>,
    /// With `apart`: how many of them one node, tier or site may have, 1 or more. Default: 1.
    #[serde(default = "one")]
    pub at_most: u32,
}

/// What counts as the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// The same node.
    Node,
    /// The same tier.
    Tier,
    /// The same site.
    Site,
}

impl Scope {
    /// The name of the place of this kind that `node` belongs to; empty if it has none.
    pub(crate) fn of(self, node: &Node) -> &str {
        match self {
            Self::Node => node.name.as_str(),
            Self::Tier => node.tier.as_deref().unwrap_or_default(),
            Self::Site => node.site.as_deref().unwrap_or_default(),
        }
    }
}

impl Constraint {
    /// Whether it is about this workload.
    pub(crate) fn concerns(&self, workload: &Workload) -> bool {
        has_all(&workload.labels, &self.workloads)
    }
}

pub(crate) fn has_all(labels: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(name, value)| labels.get(name) == Some(value))
}

/// A time of the week at which nodes rest or are emptied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// What a decision calls it; unique.
    pub name: String,
    /// When it begins: `HH:MM` in UTC.
    pub from: String,
    /// When it ends: `HH:MM` in UTC; at or before `from` means on the next day.
    pub until: String,
    /// The days on which it begins. Default: every day.
    #[serde(default)]
    pub days: Vec<Day>,
    /// The nodes that it is about. Default: every node.
    #[serde(default)]
    pub nodes: Vec<String>,
    /// What it means.
    pub effect: Effect,
}

/// What a window means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// The planner moves nothing from or to these nodes.
    Freeze,
    /// They are emptied, as if they were draining, and take nothing.
    Drain,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "they say it themselves")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Day {
    fn weekday(self) -> Weekday {
        match self {
            Self::Mon => Weekday::Monday,
            Self::Tue => Weekday::Tuesday,
            Self::Wed => Weekday::Wednesday,
            Self::Thu => Weekday::Thursday,
            Self::Fri => Weekday::Friday,
            Self::Sat => Weekday::Saturday,
            Self::Sun => Weekday::Sunday,
        }
    }
}

impl Window {
    /// Whether it is open at `now`.
    pub(crate) fn is_open(&self, now: Timestamp) -> bool {
        let (Some(from), Some(until)) = (time(&self.from), time(&self.until)) else { return false };
        let now = now.to_zoned(TimeZone::UTC);
        let begins = |day: Weekday| self.days.is_empty() || self.days.iter().any(|listed| listed.weekday() == day);
        let (today, time) = (now.weekday(), now.time());
        if from < until {
            return begins(today) && (from..until).contains(&time);
        }
        (begins(today) && time >= from) || (begins(today.previous()) && time < until)
    }

    /// Whether it is about this node.
    pub(crate) fn concerns(&self, node: &Node) -> bool {
        self.nodes.is_empty() || self.nodes.iter().any(|name| node.name == name.as_str())
    }
}

/// `HH:MM`
pub(crate) fn time(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':').filter(|(hour, minute)| hour.len() == 2 && minute.len() == 2)?;
    Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
}

fn yes() -> bool {
    true
}

fn one() -> u32 {
    1
}

fn fifth() -> f64 {
    0.2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_may_span_midnight() {
        let window = |from: &str, until: &str, days: Vec<Day>| Window {
            name: "w".into(),
            from: from.into(),
            until: until.into(),
            days,
            nodes: Vec::new(),
            effect: Effect::Freeze,
        };
        // 2026-11-22 is a Sunday.
        let open = |window: &Window, at: &str| window.is_open(at.parse().expect("a time"));
        let night = window("22:00", "04:00", vec![Day::Sun]);
        assert!(open(&night, "2026-11-22T22:00:00Z") && open(&night, "2026-11-23T03:59:00Z"));
        assert!(!open(&night, "2026-11-23T04:00:00Z") && !open(&night, "2026-11-22T03:00:00Z"));
        let noon = window("12:00", "13:00", Vec::new());
        assert!(open(&noon, "2026-11-22T12:30:00Z") && !open(&noon, "2026-11-22T13:00:00Z"));
        assert!(time("24:00").is_none() && time("9:00").is_none() && time("nine").is_none());
    }
}
