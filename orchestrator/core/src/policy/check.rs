//! What makes a policy impossible.

use std::collections::BTreeMap;

use super::{Policy, Scope, Threshold};
use crate::problem::Problem;
use crate::score::FactorName;

pub(super) fn problems(policy: &Policy) -> Vec<Problem> {
    let mut found = Found::default();
    let Policy { overload, headroom, weights, delay, cooldown, heartbeat, .. } = policy;

    found.whole("max_downtime_ms", policy.max_downtime_ms, 3_600_000);
    found.within("min_gain", policy.min_gain, 0.0, 1.0);

    found.above("balance.spread", policy.balance.spread, 1.0);
    let (pack, follow, burst) = (&policy.pack, &policy.follow, &policy.burst);
    found.above("pack.below", pack.below, 1.0);
    found.above("pack.fill", pack.fill, 1.0);
    found.order("pack.fill", pack.fill, "pack.below", pack.below);
    found.whole("pack.keep", u64::from(pack.keep), 100_000);
    found.within("follow.gain_ms", follow.gain_ms, 0.0, 60_000.0);
    found.above("follow.ratio", follow.ratio, 1.0);
    found.within("burst.factor", burst.factor, 1.0, 100.0);
    found.within("burst.slight", burst.slight, 0.0, 1.0);
    found.above("burst.under", burst.under, 1.0);
    found.above("burst.often", burst.often, 1.0);
    found.within("burst.wait_s", burst.wait_s, 0.0, 86_400.0);

    found.above("cost.horizon_s", policy.cost.horizon_s, 86_400.0);
    found.within("cost.transfer_weight", policy.cost.transfer_weight, 0.0, 1.0);
    found.above("cost.unknown_mbps", policy.cost.unknown_mbps, 1e6);

    let resize = &policy.resize;
    found.above("resize.at", resize.at, 1.0);
    found.within("resize.step", resize.step, 1.1, 10.0);
    found.within("resize.most", resize.most, 1.0, 100.0);
    found.within("resize.idle", resize.idle, 0.0, 1.0);
    found.order("resize.at", resize.at, "resize.idle", resize.idle);

    found.threshold("overload.cpu", overload.cpu, 1.0);
    found.threshold("overload.memory", overload.memory, 1.0);
    found.threshold("overload.pressure", overload.pressure, 1.0);
    found.threshold("overload.temperature_c", overload.temperature_c, 200.0);

    found.above("sampling.interval_s", policy.sampling.interval_s, 3600.0);
    found.whole("sampling.window", u64::from(policy.sampling.window), 1000);

    for (field, reserve, name, threshold) in [
        ("headroom.cpu", headroom.cpu, "overload.cpu", overload.cpu),
        ("headroom.memory", headroom.memory, "overload.memory", overload.memory),
    ] {
        if !(0.0..1.0).contains(&reserve) {
            found.add(field, format!("{reserve} is out of range"), "give a number from 0 to below 1");
        } else if 1.0 - reserve >= threshold.start {
            let reason = format!(
                "a destination may be filled to {:.2}, which is not below {name}.start ({}): it would be the next hot node",
                1.0 - reserve,
                threshold.start
            );
            found.add(field, reason, &format!("raise it above {:.2}, or raise {name}.start", 1.0 - threshold.start));
        }
    }

    if !(0.0..1.0).contains(&headroom.disk) {
        let reason = format!("{} is out of range", headroom.disk);
        found.add("headroom.disk", reason, "give a number from 0 to below 1");
    }

    let mut sum = 0.0;
    for factor in FactorName::ALL {
        let weight = weights.of(factor);
        found.within(&format!("weights.{}", factor.as_str()), weight, 0.0, 1e6);
        sum += weight;
    }
    if sum == 0.0 {
        found.add("weights", "all of them are 0: nothing would tell a good node from a bad one", "raise at least one");
    }

    found.above("delay.best_ms", delay.best_ms, 60_000.0);
    found.above("delay.worst_ms", delay.worst_ms, 60_000.0);
    found.within("delay.unknown_ms", delay.unknown_ms, 0.0, 60_000.0);
    found.order("delay.worst_ms", delay.worst_ms, "delay.best_ms", delay.best_ms);

    for (field, value) in [
        ("cooldown.moved_s", cooldown.moved_s),
        ("cooldown.return_s", cooldown.return_s),
        ("cooldown.failed_s", cooldown.failed_s),
        ("cooldown.settle_s", cooldown.settle_s),
        ("cooldown.dismissed_s", cooldown.dismissed_s),
        ("cooldown.longest_s", cooldown.longest_s),
    ] {
        found.within(field, value, 0.0, 31_536_000.0);
        if value > cooldown.longest_s {
            let reason = format!("{value} is longer than cooldown.longest_s ({})", cooldown.longest_s);
            found.add(field, reason, "lower it, or raise cooldown.longest_s");
        }
    }

    found.whole("concurrency.per_node", u64::from(policy.concurrency.per_node), 1000);
    found.whole("concurrency.cluster", u64::from(policy.concurrency.cluster), 1000);

    found.above("heartbeat.interval_s", heartbeat.interval_s, 86_400.0);
    found.above("heartbeat.suspect_s", heartbeat.suspect_s, 86_400.0);
    found.above("heartbeat.offline_s", heartbeat.offline_s, 86_400.0);
    found.order("heartbeat.suspect_s", heartbeat.suspect_s, "heartbeat.interval_s", heartbeat.interval_s);
    found.order("heartbeat.offline_s", heartbeat.offline_s, "heartbeat.suspect_s", heartbeat.suspect_s);
    for (index, path) in policy.files.bind_mounts.iter().enumerate() {
        if !super::is_plain(path) {
            let field = format!("files.bind_mounts[{index}]");
            let remedy = "give an absolute path below / without `.`, `..` or a slash at the end, e.g. \"/srv/data\"";
            found.add(&field, format!("{path:?} is no plain folder of a host"), remedy);
        }
    }
    found.lists(policy);
    found.problems
}

#[derive(Default)]
struct Found {
    problems: Vec<Problem>,
}

impl Found {
    fn add(&mut self, field: &str, reason: impl Into<String>, remedy: &str) {
        let (field, remedy) = (field.to_owned(), remedy.to_owned());
        self.problems.push(Problem { place: None, field, reason: reason.into(), remedy });
    }

    // `contains` is false for NaN, so none of these lets it pass.
    fn within(&mut self, field: &str, value: f64, low: f64, high: f64) {
        if !(low..=high).contains(&value) {
            self.add(field, format!("{value} is out of range"), &format!("give a number from {low} to {high}"));
        }
    }

    fn above(&mut self, field: &str, value: f64, high: f64) {
        if value <= 0.0 || !(0.0..=high).contains(&value) {
            self.add(field, format!("{value} is out of range"), &format!("give a number above 0 and at most {high}"));
        }
    }

    fn whole(&mut self, field: &str, value: u64, high: u64) {
        if !(1..=high).contains(&value) {
            self.add(field, format!("{value} is out of range"), &format!("give a whole number from 1 to {high}"));
        }
    }

    fn order(&mut self, field: &str, value: f64, lower_field: &str, lower: f64) {
        if value <= lower {
            let reason = format!("{value} is not above {lower_field} ({lower})");
            self.add(field, reason, &format!("raise it, or lower {lower_field}"));
        }
    }

    fn lists(&mut self, policy: &Policy) {
        let mut names = std::collections::BTreeSet::new();
        for (index, constraint) in policy.constraints.iter().enumerate() {
            let field = |name: &str| format!("constraints[{index}].{name}");
            if !names.insert(constraint.name.as_str()) {
                self.add(&field("name"), format!("{:?} is there twice", constraint.name), "rename one of the two");
            }
            self.within(&field("weight"), constraint.weight, 0.0, 1.0);
            self.whole(&field("at_most"), u64::from(constraint.at_most), 1_000_000);
            if constraint.together.is_some() && constraint.apart.is_some() {
                let reason = "the same workloads can't be both together and apart";
                self.add(&field("apart"), reason, "make two constraints, or remove one of the two");
            }
            let opposite = policy.constraints[..index].iter().find(|other| {
                other.hard
                    && constraint.hard
                    && (other.together.is_some() && within(&constraint.workloads, &other.workloads)
                        || constraint.together.is_some() && within(&other.workloads, &constraint.workloads))
                    && ((other.together == Some(Scope::Node) && constraint.apart.is_some() && constraint.at_most == 1)
                        || (constraint.together == Some(Scope::Node) && other.apart.is_some() && other.at_most == 1))
            });
            if let Some(other) = opposite {
                let reason =
                    format!("it contradicts {:?}: one wants workloads together that the other wants apart", other.name);
                self.add(&field("name"), reason, "remove one of the two, or set hard = false");
            }
        }
        let mut names = std::collections::BTreeSet::new();
        for (index, window) in policy.windows.iter().enumerate() {
            let field = |name: &str| format!("windows[{index}].{name}");
            if !names.insert(window.name.as_str()) {
                self.add(&field("name"), format!("{:?} is there twice", window.name), "rename one of the two");
            }
            for (name, text) in [("from", &window.from), ("until", &window.until)] {
                if super::constraint::time(text).is_none() {
                    self.add(&field(name), format!("{text:?} is no time of day"), "give HH:MM in UTC, e.g. \"22:00\"");
                }
            }
        }
    }

    fn threshold(&mut self, field: &str, threshold: Threshold, high: f64) {
        self.above(&format!("{field}.start"), threshold.start, high);
        self.above(&format!("{field}.done"), threshold.done, high);
        if threshold.done >= threshold.start {
            let reason = format!(
                "{} is not below {field}.start ({}): a node would be overloaded and relieved at once, and workloads would go to and fro",
                threshold.done, threshold.start
            );
            self.add(&format!("{field}.done"), reason, &format!("lower it, or raise {field}.start"));
        }
    }
}

/// Whether everything that `narrow` selects, `wide` selects too.
fn within(narrow: &BTreeMap<String, String>, wide: &BTreeMap<String, String>) -> bool {
    super::constraint::has_all(narrow, wide)
}
