//! Migrations that a person asks for, and the recheck of an action before it starts.

mod common;

use common::{flight, now, thesis, workload};
use fog_core::{
    Action, Availability, Migrate, MigrateMode, Policy, ReasonCode, Refusal, Snapshot, Strategy, Trigger, Verdict,
    WorkloadState, place, plan, recheck,
};

fn ask(snapshot: &Snapshot, workload: &str, to: Option<&str>) -> Result<Migrate, Refusal> {
    place(snapshot, &Policy::default(), workload, to, None, now())
}

#[test]
fn a_person_overrules_judgement_but_no_fact() {
    let mut snapshot = thesis();
    snapshot.nodes[0].cpu_window = vec![0.1; 3];
    snapshot.workloads[0].moved_at = Some(now());
    snapshot.workloads[0].migrate = MigrateMode::Manual;
    snapshot.nodes[3].cpu_window = vec![0.95; 3];
    let migrate = ask(&snapshot, "looper", Some("D")).expect("possible");
    assert_eq!((migrate.to.as_str(), migrate.trigger, migrate.strategy), ("D", Trigger::Manual, Strategy::StopAndCopy));
    let chosen = migrate.candidates.iter().find(|c| c.verdict == Verdict::Chosen).expect("chosen");
    assert_eq!(chosen.reasons[0].code, ReasonCode::Overloaded);
    assert_eq!(
        migrate.reason,
        "A person asked for D. looper moves to D: 95 % busy and 80 ms away. C (20 % busy and 2 ms away) would have scored 0.43 more."
    );
    assert_eq!(recheck(&Action::Migrate(migrate), &snapshot, &Policy::default(), now()), Ok(()));

    // Nobody named a node: one that nothing speaks against.
    assert_eq!(ask(&snapshot, "looper", None).expect("possible").to, "C");
}

#[test]
fn each_refusal_has_its_own_type() {
    let snapshot = thesis();
    let said = |workload, to| ask(&snapshot, workload, to).expect_err("refused").to_string();
    assert_eq!(said("loper", None), "workload \"loper\" is not known: did you mean \"looper\"?");
    assert_eq!(said("looper", Some("zebra")), "node \"zebra\" is not known");
    assert_eq!(said("looper", Some("A")), "looper is on A already");
    let refused = place(&snapshot, &Policy::default(), "looper", None, Some(Strategy::PostCopy), now());
    assert!(matches!(refused, Err(Refusal::Strategy(_))), "{refused:?}");
}

#[test]
fn what_can_t_move_is_told_every_reason() {
    let mut snapshot = thesis();
    let looper = &mut snapshot.workloads[0];
    looper.obstacles = vec!["it has a terminal (TTY)".into(), "it uses the device /dev/kvm".into()];
    looper.migrate = MigrateMode::Never;
    looper.state = WorkloadState::Paused;
    snapshot.in_flight.push(flight("looper", "A", "B"));
    let Err(Refusal::NotMovable { reasons, .. }) = ask(&snapshot, "looper", Some("C")) else { panic!("refused") };
    let codes: Vec<_> = reasons.iter().map(|reason| reason.code).collect();
    use ReasonCode::*;
    assert_eq!(codes, [InFlight, Pinned, NotRunning, Obstacle, Obstacle]);
}

#[test]
fn where_it_can_t_go_is_told_every_reason() {
    let mut snapshot = thesis();
    snapshot.nodes[2].arch = "aarch64".into();
    snapshot.nodes[2].cordoned = true;
    snapshot.nodes[2].memory = Some(0.999);
    let Err(Refusal::Infeasible { reasons, candidates, .. }) = ask(&snapshot, "looper", Some("C")) else { panic!() };
    let codes: Vec<_> = reasons.iter().map(|reason| reason.code).collect();
    assert_eq!(codes, [ReasonCode::Cordoned, ReasonCode::Architecture, ReasonCode::MemoryFull]);
    assert_eq!(candidates.len(), 3);

    for node in &mut snapshot.nodes[1..] {
        node.availability = Availability::Offline;
    }
    let refused = ask(&snapshot, "looper", None).expect_err("nowhere");
    assert!(matches!(refused, Refusal::NoFeasibleDestination { .. }));
    assert!(refused.to_string().starts_with("no node can take looper: B is offline; C is offline; "), "{refused}");
}

#[test]
fn an_action_is_rechecked_against_what_has_changed() {
    let policy = Policy::default();
    let action = plan(&thesis(), &policy, now()).actions.remove(0);
    let codes = |change: &dyn Fn(&mut Snapshot)| {
        let mut snapshot = thesis();
        change(&mut snapshot);
        let reasons = recheck(&action, &snapshot, &policy, now()).err().unwrap_or_default();
        reasons.into_iter().map(|reason| reason.code).collect::<Vec<_>>()
    };
    use ReasonCode::*;
    assert_eq!(codes(&|_| ()), []);
    assert_eq!(codes(&|s| s.nodes[0].cpu_window = vec![0.75; 3]), [], "still above done");
    assert_eq!(codes(&|s| s.nodes[0].cpu_window = vec![0.6; 3]), [Relieved]);
    assert_eq!(codes(&|s| s.workloads.clear()), [WorkloadMoved]);
    assert_eq!(codes(&|s| s.workloads[0].node = common::name("B")), [WorkloadMoved]);
    assert_eq!(codes(&|s| s.nodes.retain(|node| node.name != "C")), [NodeUnknown]);
    assert_eq!(codes(&|s| s.nodes[2].cpu_window = vec![0.9; 3]), [Overloaded]);
    assert_eq!(codes(&|s| s.workloads[0].moved_at = Some(now())), [Cooldown]);
    assert_eq!(
        codes(&|s| {
            s.workloads.extend([workload("x", "A", 0.1), workload("y", "A", 0.1)]);
            s.in_flight.extend([flight("x", "A", "C"), flight("y", "A", "B")]);
        }),
        [Concurrency]
    );
}
