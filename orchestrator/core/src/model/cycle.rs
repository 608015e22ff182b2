//! Rules that no placement can keep, because of who is in the cluster.
//!
//! Two rules that contradict each other are found in the policy alone. Over three or more it takes workloads that belong to
//! several of them: "db and cache together", "cache and web together", "db and web apart".

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Snapshot, Workload};
use crate::policy::{Constraint, Policy, Scope};
use crate::problem::Problem;

/// One for every rule that keeps apart what others, taken together, want in one place.
pub(super) fn problems(snapshot: &Snapshot, policy: &Policy) -> Vec<Problem> {
    let hard = |rule: &&Constraint| rule.hard;
    let apart = policy.constraints.iter().filter(hard).filter_map(|rule| Some((rule, rule.apart?)));
    let mut found = Vec::new();
    for (rule, scope) in apart {
        // What shares a node shares its tier and its site.
        let joins =
            |other: &&Constraint| other.together.is_some_and(|together| together == Scope::Node || together == scope);
        let together: Vec<&Constraint> = policy.constraints.iter().filter(hard).filter(joins).collect();
        if together.is_empty() {
            continue;
        }
        let mut workloads: Vec<&Workload> = snapshot.workloads.iter().collect();
        workloads.sort_by(|a, b| a.name.cmp(&b.name));
        let graph = Graph::new(&workloads, &together);
        let mut crowds: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for at in (0..workloads.len()).filter(|at| rule.concerns(workloads[*at])) {
            crowds.entry(graph.crowd[at]).or_default().push(at);
        }
        let at_most = usize::try_from(rule.at_most).unwrap_or(usize::MAX);
        let Some(crowd) = crowds.into_values().find(|crowd| crowd.len() > at_most) else { continue };
        let (Some(first), Some(last)) = (crowd.first(), crowd.get(at_most)) else { continue };
        let quoted =
            |names: BTreeSet<&str>| names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" and ");
        let by = graph.path(*first, *last).into_iter().map(|rule| together[rule].name.as_str()).collect();
        let reason = format!(
            "the rules go round in a circle: {:?} wants at most {at_most} of {} in a place, and {} and {} belong together by {}",
            rule.name,
            crowd.len(),
            workloads[*first].name,
            workloads[*last].name,
            quoted(by),
        );
        let named = |one: &Workload| one.name == workloads[*last].name;
        let index = snapshot.workloads.iter().position(named).unwrap_or_default();
        let remedy = "remove one of these rules, set hard = false in it, or change the workloads' labels".to_owned();
        found.push(Problem { place: None, field: format!("workloads[{index}].labels"), reason, remedy });
    }
    found
}

/// Who belongs together, over as many rules as it takes.
struct Graph {
    /// The rules of each workload, and the workloads of each rule.
    rules: Vec<Vec<usize>>,
    members: Vec<Vec<usize>>,
    /// Workloads of the same number belong together.
    crowd: Vec<usize>,
}

impl Graph {
    fn new(workloads: &[&Workload], together: &[&Constraint]) -> Self {
        let concerned =
            |workload: &Workload| (0..together.len()).filter(|at| together[*at].concerns(workload)).collect();
        let rules: Vec<Vec<usize>> = workloads.iter().map(|workload| concerned(workload)).collect();
        let mut members = vec![Vec::new(); together.len()];
        for (at, rules) in rules.iter().enumerate() {
            rules.iter().for_each(|rule| members[*rule].push(at));
        }
        let mut graph = Self { rules, members, crowd: vec![usize::MAX; workloads.len()] };
        for at in 0..workloads.len() {
            if graph.crowd[at] == usize::MAX {
                graph.walk(at, None).into_keys().for_each(|other| graph.crowd[other] = at);
            }
        }
        graph
    }

    /// Everybody whom `from` belongs with (as far as `to`), each with the rule and the workload that lead there.
    fn walk(&self, from: usize, to: Option<usize>) -> BTreeMap<usize, Option<(usize, usize)>> {
        let mut reached = BTreeMap::from([(from, None)]);
        let mut used = BTreeSet::new();
        let mut queue = VecDeque::from([from]);
        while let Some(at) = queue.pop_front() {
            if to == Some(at) {
                break;
            }
            for rule in self.rules[at].iter().filter(|rule| used.insert(**rule)) {
                for next in &self.members[*rule] {
                    if !reached.contains_key(next) {
                        reached.insert(*next, Some((*rule, at)));
                        queue.push_back(*next);
                    }
                }
            }
        }
        reached
    }

    /// The rules over which two of a crowd belong together.
    fn path(&self, from: usize, to: usize) -> Vec<usize> {
        let reached = self.walk(from, Some(to));
        let mut rules = Vec::new();
        let mut at = to;
        while let Some(Some((rule, before))) = reached.get(&at) {
            rules.push(*rule);
            at = *before;
        }
        rules
    }
}
