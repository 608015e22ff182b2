//! Sentences that a person can agree or disagree with.

use crate::feasibility::Reason;
use crate::model::{Node, Workload};
use crate::overload::{Metric, Overload, cpu};
use crate::plan::{Candidate, HARDLY, Verdict};
use crate::policy::Policy;
use crate::projection::Projection;
use crate::score::{Factor, FactorName};

/// Reasons as one text.
pub(crate) fn join(reasons: &[Reason]) -> String {
    reasons.iter().map(|reason| reason.detail.as_str()).collect::<Vec<_>>().join("; ")
}

/// Why each of these nodes can't: a large cluster has more reasons than anyone reads.
pub(crate) fn first_few(candidates: &[Candidate]) -> String {
    const FEW: usize = 5;
    let mut each: Vec<&str> = candidates.iter().take(FEW).map(|candidate| candidate.reason.as_str()).collect();
    let more = format!("and so on for {} more", candidates.len().saturating_sub(FEW));
    if candidates.len() > FEW {
        each.push(&more);
    }
    each.join("; ")
}

pub(crate) fn percent(fraction: f64) -> String {
    format!("{:.0} %", fraction * 100.0)
}

pub(crate) fn milliseconds(ms: f64) -> String {
    if ms >= 10_000.0 {
        format!("{:.0} s", ms / 1000.0)
    } else if ms >= 1000.0 {
        format!("{:.1} s", ms / 1000.0)
    } else if ms >= 10.0 {
        format!("{ms:.0} ms")
    } else {
        format!("{} ms", (ms * 10.0).round() / 10.0)
    }
}

impl Overload {
    /// `90 % CPU (limit 80 %)`
    pub(crate) fn describe(&self) -> String {
        self.metric.describe(self.value, self.threshold.start)
    }

    /// The first sentence of a plan's reason.
    pub(crate) fn sentence(&self, node: &Node, policy: &Policy) -> String {
        let name = &node.name;
        let what = self.describe();
        match self.metric {
            Metric::Cpu if node.cpu_window.is_empty() => format!("{name} is at {what}."),
            Metric::Cpu => {
                let seconds = policy.sampling.interval_s * f64::from(policy.sampling.window);
                format!(
                    "{name} has been at {} CPU for {seconds:.0} s (limit {}).",
                    percent(self.value),
                    percent(self.threshold.start)
                )
            }
            Metric::Memory | Metric::TemperatureC => format!("{name} is at {what}."),
            Metric::Pressure => format!("Tasks on {name} lose much time: {what}."),
        }
    }
}

impl Metric {
    pub(crate) fn describe(self, value: f64, limit: f64) -> String {
        match self {
            Self::Cpu => format!("{} CPU (limit {})", percent(value), percent(limit)),
            Self::Memory => format!("{} memory (limit {})", percent(value), percent(limit)),
            Self::Pressure => format!("{} memory or io pressure (limit {})", percent(value), percent(limit)),
            Self::TemperatureC => format!("{value:.0} °C (limit {limit:.0} °C)"),
        }
    }
}

/// Compares candidates in words: by what was measured, not by what the score made of it.
pub(crate) struct Words<'p, 'a> {
    pub(crate) projection: &'p Projection<'a>,
    pub(crate) policy: &'p Policy,
    pub(crate) source: usize,
    pub(crate) workload: &'p Workload,
}

impl Words<'_, '_> {
    /// With every move planned before this one.
    fn busy(&self, node: usize) -> Option<f64> {
        self.projection.load(node).cpu
    }

    /// `20 % busy and 2 ms away`
    pub(crate) fn place(&self, node: usize) -> String {
        let busy = match (self.busy(node), cpu(self.projection.node(node), self.policy)) {
            (Some(busy), Some(measured)) if (busy - measured).abs() >= 0.01 => {
                format!("{} busy with what is on its way", percent(busy))
            }
            (Some(busy), _) => format!("{} busy", percent(busy)),
            (None, _) => "of unknown load".to_owned(),
        };
        match self.projection.rtt_ms(self.source, node) {
            Some(rtt) => format!("{busy} and {} away", milliseconds(rtt)),
            None => format!("{busy}, its delay is not measured"),
        }
    }

    /// Why the second-best is the second-best; of several, the one that a person would have thought of: an idler node.
    pub(crate) fn contrast(&self, chosen: usize, candidates: &[Candidate]) -> String {
        let rejected = || {
            candidates.iter().filter(|c| c.verdict == Verdict::Rejected).filter_map(|c| {
                let node = self.projection.find(c.node.as_str())?;
                Some((c, node, self.busy(node).unwrap_or(1.0)))
            })
        };
        let Some(winner) = candidates.iter().find(|c| c.verdict == Verdict::Chosen) else { return String::new() };
        let lead = |other: &Candidate| winner.score.unwrap_or(0.0) - other.score.unwrap_or(0.0);
        let better = rejected().find(|(other, ..)| lead(other) < 0.0);
        if let Some((other, node, _)) = better {
            return format!(" {} ({}) would have scored {:.2} more.", other.node, self.place(node), -lead(other));
        }
        let busy = self.busy(chosen).unwrap_or(1.0);
        let idler = rejected().filter(|(_, _, other)| busy - other >= 0.01).min_by(|a, b| a.2.total_cmp(&b.2));
        if let Some((other, node, other_busy)) = idler {
            let wish = other.penalties.iter().find(|penalty| !winner.penalties.contains(penalty));
            let but = match (self.projection.rtt_ms(self.source, node), worst_loss(winner, other)) {
                _ if wish.is_some() => {
                    format!("but breaks the wish {:?}, and lost by", wish.map_or("", |wish| wish.constraint.as_str()))
                }
                (Some(rtt), Some((FactorName::Delay, ..))) => format!("but {} away, and lost by", milliseconds(rtt)),
                (None, Some((FactorName::Delay, ..))) => "but nobody has measured its delay, and it lost by".to_owned(),
                (_, Some((FactorName::Cpu, theirs, ours))) => {
                    let versus = versus(FactorName::Cpu, theirs, ours);
                    format!("but would be busier with {} ({versus}), and lost by", self.workload.name)
                }
                (_, Some((name, theirs, ours))) => format!("but {}, and lost by", versus(name, theirs, ours)),
                (_, None) => "and lost by".to_owned(),
            };
            return format!(" {} is idler ({}), {but} {:.2}.", other.node, percent(other_busy), lead(other));
        }
        match rejected().next() {
            Some((other, ..)) if lead(other) == 0.0 => {
                format!(" {} is just as good; the name decided.", other.node)
            }
            Some((other, node, _)) => {
                let wish = other.penalties.iter().find(|penalty| !winner.penalties.contains(penalty));
                let wish = wish.map_or_else(String::new, |wish| format!(" breaks the wish {:?},", wish.constraint));
                format!(" {} ({}){wish} came second and lost by {:.2}.", other.node, self.place(node), lead(other))
            }
            None if candidates.len() == 1 => " There is no other node.".to_owned(),
            None => " No other node can take it.".to_owned(),
        }
    }

    /// `lost by 0.11 to C, mostly on delay: 80 ms against 2 ms`
    pub(crate) fn rejection(&self, winner: &Candidate, other: &Candidate) -> String {
        let lead = winner.score.unwrap_or(0.0) - other.score.unwrap_or(0.0);
        let wish = other.penalties.iter().find(|penalty| !winner.penalties.contains(penalty));
        match worst_loss(winner, other) {
            _ if lead > 0.0 && wish.is_some_and(|wish| wish.weight >= lead) => {
                let name = wish.map_or("", |wish| wish.constraint.as_str());
                format!("lost by {lead:.2} to {}, because of the wish {name:?}", winner.node)
            }
            _ if lead == 0.0 => format!("scored the same as {}, which comes first by name", winner.node),
            _ if lead < 0.0 => format!("would have scored {:.2} more than {}", -lead, winner.node),
            Some((name, theirs, ours)) => {
                format!(
                    "lost by {lead:.2} to {}, mostly on {}: {}",
                    winner.node,
                    label(name),
                    versus(name, theirs, ours)
                )
            }
            None => format!("lost by {lead:.2} to {}", winner.node),
        }
    }

    /// What moving a workload does for a node that stays overloaded all the same.
    pub(crate) fn hardly(&self, hot: &Overload) -> Option<String> {
        let share = self.projection.share(self.workload, self.source, self.source);
        let (share, left) = match hot.metric {
            Metric::Cpu => (share.cpu, self.projection.load(self.source).cpu? - share.cpu),
            Metric::Memory => (share.memory, self.projection.load(self.source).memory? - share.memory),
            Metric::Pressure | Metric::TemperatureC => return None,
        };
        let (name, node) = (&self.workload.name, &self.projection.node(self.source).name);
        let uses = if share < 0.01 { "less than 1 %".to_owned() } else { percent(share) };
        (left >= hot.threshold.start && share < HARDLY)
            .then(|| format!(" That hardly relieves {node} ({name} uses {uses} of it), but {name} runs better there."))
    }
}

/// The factor on which `other` lost most, with both values.
fn worst_loss<'c>(winner: &'c Candidate, other: &'c Candidate) -> Option<(FactorName, &'c Factor, &'c Factor)> {
    winner
        .factors
        .iter()
        .filter_map(|(name, ours)| Some((*name, other.factors.get(name)?, ours)))
        .map(|(name, theirs, ours)| (ours.contribution - theirs.contribution, (name, theirs, ours)))
        .filter(|(loss, _)| *loss > 0.0)
        .max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.0.cmp(&a.1.0)))
        .map(|(_, loss)| loss)
}

fn label(name: FactorName) -> &'static str {
    match name {
        FactorName::Cpu => "CPU",
        FactorName::RunQueue => "its run queue",
        FactorName::Capability => "the speed of its cores",
        other => other.as_str(),
    }
}

fn versus(name: FactorName, theirs: &Factor, ours: &Factor) -> String {
    let text = |factor: &Factor| match (name, factor.raw) {
        (_, None) => "not measured".to_owned(),
        (FactorName::Cpu | FactorName::Memory | FactorName::Pressure, Some(raw)) => percent(raw),
        (FactorName::Delay, Some(raw)) => milliseconds(raw),
        (FactorName::Distance, Some(raw)) => format!("{raw:.0} km"),
        (FactorName::RunQueue, Some(raw)) => format!("{raw:.1} tasks per core"),
        (FactorName::Temperature, Some(raw)) => format!("{raw:.0} °C"),
        (FactorName::Capability, Some(raw)) => format!("{raw:.2} times a reference core"),
    };
    let what = match name {
        FactorName::Memory => " memory",
        FactorName::Pressure => " pressure",
        _ => "",
    };
    format!("{}{what} against {}", text(theirs), text(ours))
}
