//! What a policy would have done with the past.

mod common;

use common::{link, node, now, workload};
use fog_core::replay::{Moved, Past, Replay, Sampled};
use fog_core::{Policy, Snapshot};
use jiff::SignedDuration;

const STEPS: usize = 120;

/// Two hours, minute by minute: A at 90 % until `until`, then at 40 %; B at 20 %, then at 70 %. `burner` uses half a core.
fn past(until: usize, at: &str) -> Past {
    let now = Snapshot {
        at: now(),
        nodes: vec![node("A", 0.9), node("B", 0.2)],
        links: vec![link("A", "B", 2.0)],
        workloads: vec![workload("burner", at, 0.5)],
        in_flight: Vec::new(),
    };
    let row = |before: f64, after: f64| {
        let cpu = move |step: usize| if step < until { before } else { after };
        (0..STEPS).map(|step| Some(Sampled { cpu: cpu(step), memory: 0.4 })).collect()
    };
    let from = now.at - SignedDuration::from_mins(120);
    Past { now, from, step_s: 60, samples: vec![row(0.9, 0.4), row(0.2, 0.7)], moves: Vec::new() }
}

fn played(past: Past, policy: &Policy) -> Replay {
    let mut replay = Replay::new(past, policy);
    while replay.step() {}
    assert_eq!(replay.steps.len(), STEPS);
    replay
}

fn minutes(replay: &Replay) -> (u32, u32) {
    replay.steps.iter().fold((0, 0), |sum, step| (sum.0 + step.overloaded, sum.1 + step.would_be))
}

#[test]
fn what_was_left_to_burn_would_have_moved_once() {
    let replay = played(past(STEPS, "A"), &Policy::default());
    let [one] = &replay.would_move[..] else { panic!("{:?}", replay.would_move) };
    assert_eq!((one.workload.as_str(), one.from.as_str(), one.to.as_str()), ("burner", "A", "B"));
    let (really, would_be) = minutes(&replay);
    assert!(really == 120 && would_be < 10, "{really} {would_be}");
}

#[test]
fn what_really_moved_stays_where_the_policy_would_have_left_it() {
    let mut past = past(60, "B");
    past.moves.push(Moved {
        at: past.from + SignedDuration::from_mins(60),
        workload: "burner".into(),
        from: "A".into(),
        to: "B".into(),
    });
    // Nothing is ever worth a move to it.
    let idle = Policy { min_gain: 1.0, ..Policy::default() };
    let replay = played(past.clone(), &idle);
    assert_eq!((replay.would_move.len(), minutes(&replay)), (0, (60, 120)));
    // The default acts sooner than whoever acted.
    let replay = played(past, &Policy::default());
    let (really, would_be) = minutes(&replay);
    assert!(replay.would_move.len() == 1 && really == 60 && would_be < 10, "{really} {would_be}");
}

#[test]
fn what_was_not_measured_is_nobodys_overload() {
    let mut past = past(STEPS, "A");
    past.samples[0].iter_mut().for_each(|sampled| *sampled = None);
    past.samples[1].truncate(3);
    past.moves.push(Moved { at: past.from, workload: "gone".into(), from: "X".into(), to: "A".into() });
    let replay = played(past, &Policy::default());
    assert_eq!((replay.would_move.len(), minutes(&replay)), (0, (0, 0)));
}
