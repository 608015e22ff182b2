//! One workload: every node judged, one chosen.

use super::rank::Ranking;
use super::{Candidate, Migrate, Trigger, Verdict, reunite};
use crate::explain::{Words, join};
use crate::feasibility::{Context, Reason};
use crate::model::Workload;
use crate::overload::{Metric, Overload};
use crate::policy::{Autonomy, Policy};
use crate::score::{Score, round, score};
use crate::strategy::{POST_COPY, Strategy};

/// The most nodes that one decision speaks of: nobody reads more.
const EXPLAINED: usize = 64;
/// And of a decision of a plan that has many.
const BRIEFLY: usize = 12;
/// So many decisions of a plan are explained at length.
const AT_LENGTH: usize = 32;

/// A node, judged.
pub(crate) struct Assessed {
    pub(crate) node: usize,
    pub(crate) reasons: Vec<Reason>,
    pub(crate) score: Score,
    pub(crate) feasible: bool,
}

/// All that is known about one decision.
pub(crate) struct Choice<'c, 'p, 'a> {
    pub(crate) context: &'c Context<'p, 'a>,
    pub(crate) workload: &'a Workload,
    pub(crate) source: usize,
    pub(crate) trigger: Trigger,
}

impl<'a> Choice<'_, '_, 'a> {
    /// Every other node: feasible ones first, the best first, ties by name.
    pub(crate) fn assess(&self, pressing: &[Metric]) -> Vec<Assessed> {
        self.assess_these((0..self.context.projection.len()).collect(), pressing)
    }

    /// As many other nodes as a person reads, among them `chosen`: in a large cluster those that a link leads to and those
    /// that could score best. In the order of [`assess`](Self::assess), with the place of `chosen` in it.
    pub(crate) fn assess_some(
        &self,
        pressing: &[Metric],
        ranking: &Ranking,
        chosen: Option<usize>,
        planned: usize,
    ) -> (Vec<Assessed>, Option<usize>) {
        let most = if planned < AT_LENGTH { EXPLAINED } else { BRIEFLY };
        let projection = self.context.projection;
        let mut nodes: Vec<usize> = (0..projection.len()).collect();
        if nodes.len() > most + 1 {
            let linked = projection.neighbours(self.source).iter().copied().take(most / 2);
            let some = chosen.into_iter().chain(linked).chain(ranking.nodes().take(most)).chain(nodes);
            nodes = Vec::with_capacity(most);
            for at in some.filter(|at| *at != self.source) {
                if nodes.len() == most {
                    break;
                }
                if !nodes.contains(&at) {
                    nodes.push(at);
                }
            }
            nodes.sort_unstable();
        }
        let assessed = self.assess_these(nodes, pressing);
        let chosen = chosen.and_then(|chosen| assessed.iter().position(|one| one.node == chosen));
        (assessed, chosen)
    }

    fn assess_these(&self, nodes: Vec<usize>, pressing: &[Metric]) -> Vec<Assessed> {
        let Context { projection, policy, .. } = *self.context;
        let mut assessed: Vec<Assessed> = nodes
            .into_iter()
            .filter(|at| *at != self.source)
            .map(|node| {
                let reasons = self.context.against_destination(self.workload, self.source, node, pressing);
                let after = projection.load_with(self.workload, self.source, node);
                let feasible = match self.trigger {
                    Trigger::Overload | Trigger::Drain | Trigger::Balance | Trigger::Pack | Trigger::Follow => {
                        reasons.is_empty()
                    }
                    Trigger::Reunite => reunite::feasible(&reasons),
                    Trigger::Manual => !reasons.iter().any(|reason| reason.code.is_hard()),
                };
                Assessed {
                    node,
                    reasons,
                    score: score(projection, self.workload, self.source, node, after, policy),
                    feasible,
                }
            })
            .collect();
        // The sort is stable and the nodes come by name, which decides ties and orders the infeasible.
        assessed.sort_by(|a, b| {
            let total = |c: &Assessed| if c.feasible { c.score.total } else { -1.0 };
            total(b).total_cmp(&total(a))
        });
        assessed
    }

    /// Candidates as a person reads them; `chosen` is an index into `assessed`.
    pub(crate) fn candidates(&self, assessed: &[Assessed], chosen: Option<usize>) -> Vec<Candidate> {
        let candidate = |(index, one): (usize, &Assessed)| {
            let verdict = match one.feasible {
                false => Verdict::Infeasible,
                true if chosen == Some(index) => Verdict::Chosen,
                true => Verdict::Rejected,
            };
            Candidate {
                node: self.context.projection.node(one.node).name.clone(),
                verdict,
                score: one.feasible.then_some(one.score.total),
                factors: one.score.factors.clone(),
                penalties: one.score.penalties.clone(),
                reason: join(&one.reasons),
                reasons: one.reasons.clone(),
            }
        };
        let mut candidates: Vec<Candidate> = assessed.iter().enumerate().map(candidate).collect();
        let Some(winner) = chosen.and_then(|index| candidates.get(index).cloned()) else { return candidates };
        let words = self.words();
        let mut better = candidates.iter().filter(|candidate| candidate.score > winner.score).peekable();
        let why = if self.trigger == Trigger::Pack {
            "is the fullest that has room"
        } else if self.trigger == Trigger::Follow {
            "is the nearest to its clients"
        } else if self.trigger == Trigger::Reunite {
            "has the rest of its group"
        } else if better.peek().is_none() {
            "has the highest score"
        } else if winner.reasons.is_empty() && better.all(|candidate| !candidate.reasons.is_empty()) {
            "is the best that nothing speaks against"
        } else if self.trigger == Trigger::Manual {
            "was asked for"
        } else {
            "leaves the others room for what is planned too"
        };
        for candidate in &mut candidates {
            let first = match candidate.verdict {
                Verdict::Infeasible => continue,
                Verdict::Chosen => why.to_owned(),
                Verdict::Rejected => words.rejection(&winner, candidate),
            };
            let but = if candidate.reasons.is_empty() { "" } else { "; " };
            candidate.reason = format!("{first}{but}{}", candidate.reason);
        }
        candidates
    }

    /// The action that moves the workload to `assessed[chosen]`; `why` is what the reason begins with.
    pub(crate) fn migrate(
        &self,
        assessed: &[Assessed],
        chosen: usize,
        strategy: Strategy,
        hot: Option<&Overload>,
        why: &str,
    ) -> Option<Migrate> {
        let Context { projection, policy, .. } = *self.context;
        let (workload, source, node) = (self.workload, self.source, assessed.get(chosen)?.node);
        let name = &projection.node(node).name;
        let candidates = self.candidates(assessed, Some(chosen));
        let words = self.words();
        let mut reason = format!("{why} {} moves to {}: {}.", workload.name, name, words.place(node));
        reason.push_str(&words.contrast(node, &candidates));
        if let Some(hardly) = hot.and_then(|hot| words.hardly(hot)) {
            reason.push_str(&hardly);
        }
        let strategy_asked = strategy != Strategy::Auto;
        let (strategy, strategy_reason) = match strategy {
            Strategy::Auto => self.context.facts(workload, source, node).choose(),
            asked => (asked, format!("{asked} was asked for")),
        };
        let estimate = self.context.estimate(workload, source, node, strategy);
        let (before, after) = (projection.load(source), projection.load_with(workload, source, node));
        let gain = match hot.map(|hot| hot.metric) {
            Some(Metric::Memory) => before.memory.zip(after.memory),
            _ => before.cpu.zip(after.cpu),
        };
        let gain = gain.map_or(0.0, |(before, after)| before - after);
        let known = estimate.assumed_mbps.is_none();
        Some(Migrate {
            workload: workload.name.clone(),
            from: projection.node(source).name.clone(),
            to: name.clone(),
            strategy,
            strategy_reason,
            strategy_asked,
            trigger: self.trigger,
            group: None,
            autonomy: match self.trigger {
                Trigger::Overload | Trigger::Balance | Trigger::Pack | Trigger::Follow | Trigger::Reunite => {
                    policy.autonomy.for_workload(workload.migrate)
                }
                // A person has said what is to be done; a workload may still ask to be asked.
                Trigger::Drain => Autonomy::Automatic.for_workload(workload.migrate),
                Trigger::Manual => Autonomy::Automatic,
            },
            expected: estimate.expected(),
            gain: round(gain),
            benefit_s: round(self.context.benefit_s(gain)),
            cost_s: known.then(|| round(self.context.cost_s(&estimate))),
            reason,
            omitted: self.omitted(&candidates),
            candidates,
        })
    }

    /// How many other nodes `candidates` says nothing about.
    pub(crate) fn omitted(&self, candidates: &[Candidate]) -> usize {
        self.context.projection.len().saturating_sub(1 + candidates.len())
    }

    fn words(&self) -> Words<'_, 'a> {
        let Context { projection, policy, .. } = *self.context;
        Words { projection, policy, source: self.source, workload: self.workload }
    }
}

/// The workload's label or the policy's own strategy allows that it runs before all of its memory is there.
pub(crate) fn post_copy_allowed(workload: &Workload, policy: &Policy) -> bool {
    workload.labels.get(POST_COPY).is_some_and(|word| word == "allowed") || policy.strategy.is_post_copy()
}
