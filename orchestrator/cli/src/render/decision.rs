//! A decision: its sentence, every candidate, every factor.

use fog_api::decision::{Candidate, Decision, Verdict};

use super::paint::{Paint, Tone};
use super::table::{Cell, Side, Table};
use super::text::{clean, wrap};
use super::units;

const WIDTH: usize = 96;
const BAR: f64 = 12.0;

/// Everything that was weighed.
pub(crate) fn explain(decision: &Decision, paint: Paint) -> String {
    let mut out = format!("{}\n  {}\n", paint.head("Why"), wrap(&decision.reason, WIDTH, "  "));
    let asked = match decision.asked_by.as_str() {
        "policy" => format!("Decided by the planner under policy version {}.", decision.policy_version),
        "user" => format!("Asked for by a person, under policy version {}.", decision.policy_version),
        other => format!("Asked for by {}, under policy version {}.", clean(other), decision.policy_version),
    };
    out.push_str(&format!("  {}\n\n{}\n", paint.quiet(&asked), paint.head("Candidates")));
    out.push_str(&summary(&decision.candidates).render(paint, "  "));
    let largest =
        decision.candidates.iter().flat_map(|c| c.factors.values()).map(|f| f.contribution).fold(0.0, f64::max);
    for candidate in &decision.candidates {
        let name = clean(&candidate.node);
        out.push_str(&format!("\n{}  {}\n", paint.head(&name), wrap(&candidate.reason, WIDTH, "   ")));
        if !candidate.factors.is_empty() {
            out.push_str(&factors(candidate, largest).render(paint, "  "));
        }
    }
    out
}

fn summary(candidates: &[Candidate]) -> Table {
    let mut table = Table::new(&[("node", Side::Left), ("verdict", Side::Left), ("score", Side::Right)]);
    for candidate in candidates {
        let (word, tone) = verdict(candidate.verdict);
        let score = units::or_unknown(candidate.score, |score| format!("{score:.4}"));
        table.row(vec![Cell::from(&candidate.node), Cell::toned(word, tone), score.into()]);
    }
    table
}

fn factors(candidate: &Candidate, largest: f64) -> Table {
    let mut table = Table::new(&[
        ("factor", Side::Left),
        ("value", Side::Right),
        ("normalised", Side::Right),
        ("weight", Side::Right),
        ("contribution", Side::Right),
        ("", Side::Left),
    ]);
    let mut factors: Vec<_> = candidate.factors.iter().collect();
    // The same order for every candidate, so that they can be compared.
    factors.sort_by(|(_, a), (_, b)| b.weight.total_cmp(&a.weight));
    for (name, factor) in factors {
        table.row(vec![
            name.replace('_', " ").into(),
            units::measured(factor.value, &factor.unit).into(),
            format!("{:.3}", factor.normalised).into(),
            format!("{:.3}", factor.weight).into(),
            format!("{:.4}", factor.contribution).into(),
            Cell::quiet(bar(factor.contribution, largest)),
        ]);
    }
    for penalty in &candidate.penalties {
        let name = format!("breaks {:?}", clean(&penalty.constraint));
        table.row(vec![
            name.into(),
            "".into(),
            "".into(),
            "".into(),
            format!("-{:.4}", penalty.weight).into(),
            "".into(),
        ]);
    }
    if let Some(score) = candidate.score {
        let total = Cell::toned(format!("{score:.4}"), Tone::Head);
        table.row(vec![Cell::toned("score", Tone::Head), "".into(), "".into(), "".into(), total, "".into()]);
    }
    table
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to BAR")]
fn bar(value: f64, largest: f64) -> String {
    let share = if largest > 0.0 { (value / largest).clamp(0.0, 1.0) } else { 0.0 };
    "█".repeat((share * BAR).round() as usize)
}

pub(crate) fn verdict(verdict: Verdict) -> (&'static str, Tone) {
    match verdict {
        Verdict::Chosen => ("chosen", Tone::Good),
        Verdict::Rejected => ("rejected", Tone::Plain),
        Verdict::Infeasible => ("infeasible", Tone::Warning),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fog_api::decision::Factor;

    #[test]
    fn every_candidate_and_factor_is_shown_the_weightiest_first() {
        let factor = |value, unit: &str, weight, contribution| Factor {
            value,
            unit: unit.into(),
            normalised: 0.5,
            weight,
            contribution,
        };
        let decision = Decision {
            id: uuid::Uuid::nil(),
            at: "2026-05-04T12:00:00Z".parse().unwrap(),
            asked_by: "policy".into(),
            workload: "looper".into(),
            source: "A".into(),
            destination: Some("C".into()),
            reason: "A is at 90 % CPU.".into(),
            policy_version: 3,
            migration: None,
            trigger: None,
            strategy_reason: None,
            gain: None,
            benefit_s: None,
            cost_s: None,
            expected_downtime_ms: None,
            expected_bytes: None,
            omitted: 0,
            candidates: vec![
                Candidate {
                    node: "C".into(),
                    verdict: Verdict::Chosen,
                    score: Some(0.5),
                    factors: [
                        ("cpu".into(), factor(Some(0.25), "fraction", 0.2, 0.1)),
                        ("run_queue".into(), factor(None, "tasks per core", 0.8, 0.4)),
                    ]
                    .into(),
                    reason: "It is the best.".into(),
                    penalties: Vec::new(),
                    reasons: Vec::new(),
                },
                Candidate {
                    node: "B".into(),
                    verdict: Verdict::Infeasible,
                    score: None,
                    factors: Default::default(),
                    reason: "It is full.".into(),
                    penalties: Vec::new(),
                    reasons: Vec::new(),
                },
            ],
            kind: Default::default(),
            status: Default::default(),
            limits: None,
            answered_at: None,
        };
        let text = explain(&decision, Paint::new(false));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.contains(&"  run queue  unknown       0.500   0.800        0.4000  ████████████"), "{text}");
        assert!(lines.contains(&"  cpu         25.0 %       0.500   0.200        0.1000  ███"), "{text}");
        assert!(text.find("run queue") < text.find("cpu  "), "{text}");
        assert!(lines.contains(&"  B     infeasible       –") && lines.contains(&"B  It is full."), "{text}");
        assert!(text.contains("policy version 3"));
    }
}
