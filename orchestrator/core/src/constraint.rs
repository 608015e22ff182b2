//! Whether a place keeps a policy's rules and wishes.

use std::collections::BTreeMap;

use crate::feasibility::{ReasonCode, Reasons};
use crate::model::{Node, Workload};
use crate::policy::{Constraint, Policy};
use crate::projection::Projection;

/// Where the workloads are that one constraint wants together or apart.
#[derive(Clone)]
pub(crate) struct Peers {
    /// The place of each node: a node, a tier or a site.
    place: Vec<usize>,
    /// How many of them each place has.
    count: Vec<u32>,
    total: u32,
}

impl Peers {
    /// `None` for a constraint that doesn't care about company.
    pub(crate) fn new(constraint: &Constraint, nodes: &[&Node]) -> Option<Self> {
        let scope = constraint.together.or(constraint.apart)?;
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        let mut place = Vec::with_capacity(nodes.len());
        for node in nodes {
            let next = places.len();
            place.push(*places.entry(scope.of(node)).or_insert(next));
        }
        Some(Self { place, count: vec![0; places.len()], total: 0 })
    }

    pub(crate) fn add(&mut self, at: usize) {
        self.count[self.place[at]] += 1;
        self.total += 1;
    }

    pub(crate) fn shift(&mut self, from: usize, to: usize) {
        let (from, to) = (self.place[from], self.place[to]);
        self.count[from] = self.count[from].saturating_sub(1);
        self.count[to] += 1;
    }

    /// Others at the place of `at`, for one of them that is at `source` now.
    fn others(&self, source: usize, at: usize) -> u32 {
        let here = self.count[self.place[at]];
        if self.place[source] == self.place[at] { here.saturating_sub(1) } else { here }
    }
}

/// A wish that a place breaks.
pub(crate) struct Broken<'p> {
    pub(crate) name: &'p str,
    pub(crate) weight: f64,
}

/// Adds a reason for every rule that `workload` would break at `at`.
pub(crate) fn weigh(
    projection: &Projection<'_>,
    policy: &Policy,
    workload: &Workload,
    source: usize,
    at: usize,
    reasons: &mut impl Reasons,
) {
    let rules = policy.constraints.iter().enumerate().filter(|(_, rule)| rule.hard && rule.concerns(workload));
    for (index, rule) in rules {
        if let Some(why) = broken(projection, rule, index, workload, source, at) {
            let name = &projection.node(at).name;
            reasons.add(ReasonCode::Constraint, || format!("{name} breaks the rule {:?}: {}", rule.name, why()));
        }
    }
}

/// The wishes that `workload` would break at `at`.
pub(crate) fn wishes<'p>(
    projection: &Projection<'_>,
    policy: &'p Policy,
    workload: &Workload,
    source: usize,
    at: usize,
) -> impl Iterator<Item = Broken<'p>> {
    let wishes = policy.constraints.iter().enumerate().filter(|(_, wish)| !wish.hard && wish.concerns(workload));
    wishes
        .filter(move |(index, wish)| broken(projection, wish, *index, workload, source, at).is_some())
        .map(|(_, wish)| Broken { name: &wish.name, weight: wish.weight })
}

/// What is broken, in words if anyone asks.
fn broken<'c>(
    projection: &'c Projection<'_>,
    constraint: &'c Constraint,
    index: usize,
    workload: &'c Workload,
    source: usize,
    at: usize,
) -> Option<impl FnOnce() -> String + use<'c>> {
    let (from, node) = (projection.node(source), projection.node(at));
    let named =
        |list: &[String], value: &Option<String>| list.is_empty() || value.as_ref().is_some_and(|v| list.contains(v));
    let (others, total) =
        projection.peers(index).map_or((0, 0), |peers| (peers.others(source, at), peers.total.saturating_sub(1)));
    let feature = constraint.cpu_features.iter().find(|feature| !node.cpu_features.contains(feature));
    let label = constraint.node_labels.iter().find(|(name, value)| node.labels.get(*name) != Some(value));
    let tier = !named(&constraint.tiers, &node.tier);
    let site = !named(&constraint.sites, &node.site);
    let leaves = constraint.within.filter(|scope| scope.of(from) != scope.of(node));
    let lonely = constraint.together.is_some() && total > 0 && others == 0;
    let crowded = constraint.apart.is_some() && others >= constraint.at_most;
    let any = feature.is_some() || label.is_some() || tier || site || leaves.is_some() || lonely || crowded;
    let word = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
    let why = move || {
        if tier {
            format!("its tier is {}, not {}", word(&node.tier), constraint.tiers.join(" or "))
        } else if site {
            format!("its site is {}, not {}", word(&node.site), constraint.sites.join(" or "))
        } else if let Some((name, value)) = label {
            format!("it is not labelled {name}={value}")
        } else if let Some(feature) = feature {
            format!("its CPU lacks {feature}")
        } else if let Some(scope) = leaves {
            format!("{} would leave {}", workload.name, scope.of(from))
        } else if lonely {
            format!("none of those that belong with {} is there", workload.name)
        } else {
            format!("it has {others} already of those that {} keeps apart from", workload.name)
        }
    };
    any.then_some(why)
}
