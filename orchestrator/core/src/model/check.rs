//! What makes a snapshot impossible.

use std::collections::{BTreeMap, BTreeSet};

use super::{Node, NodeName, Snapshot, Workload};
use crate::problem::{Problem, nearest};
use crate::strategy::Strategy;

pub(super) fn problems(snapshot: &Snapshot) -> Vec<Problem> {
    let mut found = Found::default();
    let nodes: BTreeSet<&str> = snapshot.nodes.iter().map(|node| node.name.as_str()).collect();

    let mut first = BTreeMap::new();
    for (index, node) in snapshot.nodes.iter().enumerate() {
        let path = format!("nodes[{index}]");
        found.unique(&mut first, node.name.as_str().to_owned(), format!("{path}.name"));
        found.node(&path, node);
    }

    let mut first = BTreeMap::new();
    for (index, link) in snapshot.links.iter().enumerate() {
        let path = format!("links[{index}]");
        found.known(format!("{path}.from"), &link.from, &nodes);
        found.known(format!("{path}.to"), &link.to, &nodes);
        if link.from == link.to {
            found.add(
                format!("{path}.to"),
                format!("the link leads from {0} to {0}", link.from),
                "name two different nodes",
            );
        }
        found.unique(&mut first, format!("{} to {}", link.from, link.to), path.clone());
        found.at_least_zero(format!("{path}.rtt_ms"), link.rtt_ms);
        found.above_zero(format!("{path}.bandwidth_mbps"), link.bandwidth_mbps);
        found.fraction(format!("{path}.loss"), Some(link.loss));
    }

    let mut first = BTreeMap::new();
    for (index, workload) in snapshot.workloads.iter().enumerate() {
        let path = format!("workloads[{index}]");
        found.unique(&mut first, workload.name.as_str().to_owned(), format!("{path}.name"));
        found.known(format!("{path}.node"), &workload.node, &nodes);
        found.workload(&path, workload);
        let mut clients = BTreeMap::new();
        for (index, some) in workload.clients.iter().enumerate() {
            let path = format!("{path}.clients[{index}]");
            found.unique(&mut clients, some.node.as_str().to_owned(), format!("{path}.node"));
            found.known(format!("{path}.node"), &some.node, &nodes);
            found.above_zero(format!("{path}.share"), Some(some.share));
        }
    }

    let workloads: BTreeSet<&str> = first.keys().map(String::as_str).collect();
    let mut moving = BTreeMap::new();
    for (index, flight) in snapshot.in_flight.iter().enumerate() {
        let path = format!("in_flight[{index}]");
        found.unique(&mut moving, flight.workload.as_str().to_owned(), format!("{path}.workload"));
        if !workloads.contains(flight.workload.as_str()) {
            let hint = hint(flight.workload.as_str(), &workloads);
            found.add(
                format!("{path}.workload"),
                format!("workload {:?} is not in `workloads`", flight.workload.as_str()),
                format!("add it there or correct the name{hint}"),
            );
        }
        found.known(format!("{path}.from"), &flight.from, &nodes);
        found.known(format!("{path}.to"), &flight.to, &nodes);
    }
    found.problems
}

fn hint(name: &str, known: &BTreeSet<&str>) -> String {
    nearest(name, known.iter().copied()).map(|near| format!(" (did you mean {near:?}?)")).unwrap_or_default()
}

#[derive(Default)]
struct Found {
    problems: Vec<Problem>,
}

impl Found {
    fn add(&mut self, field: String, reason: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(Problem { place: None, field, reason: reason.into(), remedy: remedy.into() });
    }

    fn number(&mut self, field: String, value: Option<f64>, good: impl Fn(f64) -> bool, range: &str) {
        let Some(value) = value else { return };
        if value.is_nan() {
            self.add(field, "it is not a number (NaN)", format!("give a number {range}"));
        } else if !value.is_finite() {
            self.add(field, "it is infinite", format!("give a number {range}"));
        } else if !good(value) {
            let reason = if value < 0.0 { "is negative" } else { "is out of range" };
            self.add(field, format!("{value} {reason}"), format!("give a number {range}"));
        }
    }

    fn fraction(&mut self, field: String, value: Option<f64>) {
        if let Some(percent) = value.filter(|value| *value > 1.0 && value.is_finite()) {
            let reason = format!("{percent} is above 1: it is a fraction of the capacity, not a percentage");
            self.add(field, reason, "give a number from 0 to 1");
        } else {
            self.number(field, value, |value| (0.0..=1.0).contains(&value), "from 0 to 1");
        }
    }

    fn at_least_zero(&mut self, field: String, value: Option<f64>) {
        self.number(field, value, |value| value >= 0.0, "of 0 or more");
    }

    fn above_zero(&mut self, field: String, value: Option<f64>) {
        self.number(field, value, |value| value > 0.0, "above 0");
    }

    fn within(&mut self, field: String, value: Option<f64>, low: f64, high: f64) {
        self.number(field, value, |value| (low..=high).contains(&value), &format!("from {low} to {high}"));
    }

    fn unique(&mut self, first: &mut BTreeMap<String, String>, name: String, path: String) {
        if let Some(earlier) = first.get(&name) {
            let reason = format!("{name:?} is there twice, first as {earlier}");
            self.add(path, reason, "remove or rename one of the two");
        } else {
            first.insert(name, path);
        }
    }

    fn known(&mut self, field: String, name: &NodeName, nodes: &BTreeSet<&str>) {
        if !nodes.contains(name.as_str()) {
            let remedy = format!("add it there or correct the name{}", hint(name.as_str(), nodes));
            self.add(field, format!("node {:?} is not in `nodes`", name.as_str()), remedy);
        }
    }

    fn node(&mut self, path: &str, node: &Node) {
        if node.arch.is_empty() {
            self.add(format!("{path}.arch"), "it is empty", "give what `uname -m` says, e.g. x86_64");
        }
        self.above_zero(format!("{path}.cpus"), Some(node.cpus));
        self.above_zero(format!("{path}.cpu_score"), Some(node.cpu_score));
        if node.memory_bytes == 0 {
            self.add(format!("{path}.memory_bytes"), "it is 0", "give the memory that the node may use");
        }
        if node.disk_bytes == Some(0) {
            self.add(format!("{path}.disk_bytes"), "it is 0", "give the disk's size, or null if it is not known");
        }
        self.fraction(format!("{path}.disk"), node.disk);
        self.fraction(format!("{path}.cpu"), node.cpu);
        for (index, sample) in node.cpu_window.iter().enumerate() {
            self.fraction(format!("{path}.cpu_window[{index}]"), Some(*sample));
        }
        self.fraction(format!("{path}.cpu_hot"), node.cpu_hot);
        self.fraction(format!("{path}.memory"), node.memory);
        self.at_least_zero(format!("{path}.run_queue"), node.run_queue);
        if let Some(pressure) = node.pressure {
            self.fraction(format!("{path}.pressure.cpu"), Some(pressure.cpu));
            self.fraction(format!("{path}.pressure.memory"), Some(pressure.memory));
            self.fraction(format!("{path}.pressure.io"), Some(pressure.io));
        }
        self.within(format!("{path}.temperature_c"), node.temperature_c, -100.0, 200.0);
        if let Some(position) = node.position {
            self.within(format!("{path}.position.lat"), Some(position.lat), -90.0, 90.0);
            self.within(format!("{path}.position.lon"), Some(position.lon), -180.0, 180.0);
        }
    }

    fn workload(&mut self, path: &str, workload: &Workload) {
        self.at_least_zero(format!("{path}.cpus"), Some(workload.cpus));
        self.at_least_zero(format!("{path}.cpus_usual"), workload.cpus_usual);
        self.at_least_zero(format!("{path}.last_took_s"), workload.last_took_s);
        for (index, earlier) in workload.earlier.iter().enumerate() {
            let path = format!("{path}.earlier[{index}]");
            self.above_zero(format!("{path}.downtime_ms"), Some(earlier.downtime_ms));
            if earlier.strategy == Strategy::Auto {
                let remedy = "give the one that it was, e.g. stop-and-copy";
                self.add(format!("{path}.strategy"), "it is auto, which is no way to travel", remedy);
            }
        }
        self.above_zero(format!("{path}.limits.cpus"), workload.limits.cpus);
        self.above_zero(format!("{path}.created_with.cpus"), workload.created_with.cpus);
        if workload.limits.memory_bytes == Some(0) {
            self.add(format!("{path}.limits.memory_bytes"), "it is 0", "give a limit above 0, or null for none");
        }
        if workload.max_downtime_ms == Some(0) {
            let reason = "it is 0: no migration is without downtime";
            self.add(format!("{path}.max_downtime_ms"), reason, "give at least 1, or set migrate to \"never\"");
        }
    }
}
