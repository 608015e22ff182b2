//! What holds for every plan.

mod common;

use std::collections::BTreeSet;

use common::{flight, link, name, node, now, workload};
use fog_core::coordinate::Coordinate;
use fog_core::{
    Action, Availability, Candidate, FactorName, InFlight, Migrate, MigrateMode, Node, Plan, Policy, Snapshot, Trigger,
    Verdict, Workload, WorkloadState, overloads, place, plan, recheck,
};
use jiff::SignedDuration;
use proptest::prelude::*;
use proptest::sample::{Index, select};

const NAMES: [&str; 7] = ["A", "B", "C", "D", "E", "F", "G"];

fn any_node(index: usize) -> impl Strategy<Value = Node> {
    // In steps, so that ties occur, and hot often enough that there is something to do.
    let cpu = prop_oneof![(0..14u8), (16..=20u8)].prop_map(|step| f64::from(step) * 0.05);
    let load = (
        cpu,
        proptest::option::weighted(0.95, prop_oneof![4 => 0.1..0.7, 1 => 0.7..=1.0]),
        proptest::option::weighted(0.3, 30.0..100.0),
    );
    let machine = (select(vec![0.5, 1.0, 4.0]), select(vec![0.5, 1.0, 2.0]), prop::bool::weighted(0.9));
    let state = (0..20u8, prop::bool::weighted(0.1), proptest::option::weighted(0.3, 0.0..1.0));
    let coordinate = proptest::option::weighted(0.3, (-100.0..100.0f64, 0.01..10.0f64, 0.0..1.0f64));
    (load, machine, state, coordinate).prop_map(
        move |((cpu, memory, heat), (cpus, speed, common_arch), (state, cordoned, stall), coordinate)| {
            let mut node = node(NAMES[index], cpu);
            (node.cpus, node.cpu_score, node.memory, node.temperature_c, node.cordoned) =
                (cpus, speed, memory, heat, cordoned);
            node.arch = if common_arch { "x86_64" } else { "aarch64" }.to_owned();
            node.availability =
                [Availability::Offline, Availability::Suspect].get(usize::from(state)).copied().unwrap_or_default();
            node.draining = state == 2;
            (node.disk_bytes, node.disk) = (Some(1 << 30), stall);
            node.pressure = stall.map(|stall| fog_core::model::Pressure { cpu: 0.1, memory: stall / 2.0, io: stall });
            node.coordinate =
                coordinate.map(|(x, height, error)| Coordinate { place: [x, 0.0, 0.0, 0.0], height, error });
            node
        },
    )
}

fn any_workload(index: usize) -> impl Strategy<Value = (Workload, Index, bool)> {
    let size = ((0..8u8).prop_map(|step| f64::from(step) * 0.08), (0..8u64).prop_map(|step| step << 25));
    let state = (0..12u8, proptest::option::weighted(0.2, 0..2000i64), any::<Index>());
    (size, state, any::<Index>(), prop::bool::weighted(0.1)).prop_map(
        move |((cpus, memory), (state, moved, from), at, flies)| {
            let mut workload = workload(&format!("w{index}"), "A", cpus);
            (workload.memory_bytes, workload.disk_bytes) = (memory, memory * 3);
            match state {
                0 => workload.migrate = MigrateMode::Never,
                1 => workload.obstacles = vec!["it has a terminal".into()],
                2 => workload.state = WorkloadState::Paused,
                3 => workload.migrate = MigrateMode::Confirm,
                _ => {}
            }
            workload.moved_at = moved.map(|seconds| now() - SignedDuration::from_secs(seconds));
            workload.moves_24h = u32::from(moved.is_some());
            workload.last_from = moved.map(|_| name(NAMES[from.index(NAMES.len())]));
            (workload, at, flies)
        },
    )
}

fn any_snapshot() -> impl Strategy<Value = Snapshot> {
    let nodes = (1..=NAMES.len()).prop_flat_map(|count| (0..count).map(any_node).collect::<Vec<_>>());
    let workloads = (0..12usize).prop_flat_map(|count| (0..count).map(any_workload).collect::<Vec<_>>());
    let links = proptest::collection::vec(proptest::option::weighted(0.8, 0.1..400.0f64), 21);
    (nodes, workloads, links).prop_map(|(nodes, placed, rtts)| {
        let pairs = (0..nodes.len()).flat_map(|a| (a + 1..nodes.len()).map(move |b| (a, b)));
        let links = pairs.zip(rtts).filter_map(|((a, b), rtt)| Some(link(NAMES[a], NAMES[b], rtt?))).collect();
        let mut in_flight: Vec<InFlight> = Vec::new();
        let mut workloads = Vec::new();
        for (mut workload, at, flies) in placed {
            let here = at.index(nodes.len());
            workload.node = name(NAMES[here]);
            workload.last_from = workload.last_from.filter(|from| nodes.iter().any(|node| node.name == *from));
            if flies && nodes.len() > 1 {
                in_flight.push(flight(workload.name.as_str(), NAMES[here], NAMES[(here + 1) % nodes.len()]));
            }
            workloads.push(workload);
        }
        Snapshot { at: now(), nodes, links, workloads, in_flight }
    })
}

fn moves(plan: &Plan) -> impl Iterator<Item = &Migrate> {
    plan.actions.iter().filter_map(|action| match action {
        Action::Migrate(migrate) => Some(migrate),
        Action::Resize(_) => None,
    })
}

/// What the workload takes of the node: cores, and memory, as fractions.
fn share(snapshot: &Snapshot, migrate: &Migrate, on: &Node) -> (f64, f64) {
    let workload = snapshot.workload(migrate.workload.as_str()).expect("known");
    let speed = snapshot.node(migrate.from.as_str()).expect("known").cpu_score / on.cpu_score;
    (workload.cpus * speed / on.cpus, workload.memory_bytes as f64 / on.memory_bytes as f64)
}

/// The cluster once the plan is carried out.
fn apply(snapshot: &Snapshot, plan: &Plan) -> Snapshot {
    let mut after = snapshot.clone();
    for migrate in moves(plan) {
        for (end, sign) in [(&migrate.from, -1.0), (&migrate.to, 1.0)] {
            let node = after.nodes.iter_mut().find(|node| node.name == *end).expect("known");
            let (cpu, memory) = share(snapshot, migrate, node);
            let load = (node.cpu.expect("measured") + sign * cpu).clamp(0.0, 1.0);
            (node.cpu, node.cpu_window) = (Some(load), vec![load; 3]);
            node.memory = node.memory.map(|used| (used + sign * memory).clamp(0.0, 1.0));
            let files = snapshot.workload(migrate.workload.as_str()).expect("known").disk_bytes as f64;
            node.disk = node.disk.map(|used| (used + sign * files / (1u64 << 30) as f64).clamp(0.0, 1.0));
        }
        let workload = after.workloads.iter_mut().find(|workload| workload.name == migrate.workload).expect("known");
        workload.node = migrate.to.clone();
        workload.last_from = Some(migrate.from.clone());
        workload.moved_at = Some(plan.at);
        workload.moves_24h += 1;
    }
    after
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_breaks_no_rule(snapshot in any_snapshot()) {
        let policy = Policy::default();
        prop_assert_eq!(snapshot.check(), Ok(()));
        let plan = plan(&snapshot, &policy, now());
        let mut moved = BTreeSet::new();
        let mut started = snapshot.clone();
        for migrate in moves(&plan) {
            prop_assert!(moved.insert(migrate.workload.clone()), "{} moves twice", migrate.workload);
            // Choosing looks at few nodes, explaining at all: they agree on which is the best, or, where filling nodes up
            // leaves the cluster better off, on which is the fullest.
            let open = || migrate.candidates.iter().filter(|candidate| candidate.verdict != Verdict::Infeasible);
            let busy = |candidate: &Candidate| candidate.factors[&FactorName::Cpu].raw.unwrap_or(0.0);
            let chosen = open().find(|candidate| candidate.verdict == Verdict::Chosen).expect("the chosen one");
            let fullest = open().map(busy).fold(0.0, f64::max);
            let packs = migrate.trigger == Trigger::Overload && busy(chosen) >= fullest - 1e-4;
            let best = migrate.candidates.first().is_some_and(|first| first.node == migrate.to);
            prop_assert!(chosen.node == migrate.to && (best || packs), "{}", migrate.reason);
            let workload = snapshot.workload(migrate.workload.as_str()).expect("known");
            prop_assert!(workload.migrate != MigrateMode::Never && workload.obstacles.is_empty());
            prop_assert!(workload.state == WorkloadState::Running);
            // Each one still holds once those before it have started.
            let held = recheck(&Action::Migrate(migrate.clone()), &started, &policy, now());
            prop_assert_eq!(held, Ok(()), "{}", migrate.reason);
            started.in_flight.push(flight(migrate.workload.as_str(), migrate.from.as_str(), migrate.to.as_str()));
        }
        for node in &snapshot.nodes {
            let arriving = moves(&plan).filter(|migrate| migrate.to == node.name);
            let (mut cpu, mut memory, mut any) = (node.cpu.expect("measured"), node.memory.unwrap_or(0.0), false);
            for migrate in arriving {
                let (more_cpu, more_memory) = share(&snapshot, migrate, node);
                (cpu, memory, any) = (cpu + more_cpu, memory + more_memory, true);
            }
            prop_assert!(!any || overloads(node, &policy).is_empty(), "{} was overloaded and got more", node.name);
            // Loads that leave in the meantime may make room, so the bound is on what arrives, unless something leaves.
            let leaving = snapshot.in_flight.iter().any(|flight| flight.from == node.name)
                || snapshot.workloads.iter().any(|workload| workload.last_from.as_ref() == Some(&node.name));
            // What leaves frees no disk before it is gone for good.
            let files = moves(&plan).filter(|migrate| migrate.to == node.name);
            let files = files.map(|migrate| snapshot.workload(migrate.workload.as_str()).expect("known").disk_bytes);
            let disk = node.disk.map(|used| used + files.sum::<u64>() as f64 / (1u64 << 30) as f64);
            prop_assert!(!any || disk.is_none_or(|disk| disk <= 0.9 + 1e-9), "the disk of {} is filled", node.name);
            prop_assert!(!any || leaving || (cpu <= 0.7 + 1e-9 && memory <= 0.8 + 1e-9), "{} is filled", node.name);
        }
        // Every workload of an overloaded node is accounted for, once.
        for stays in &plan.not_moved {
            prop_assert!(moved.insert(stays.workload.clone()), "{} both moves and stays", stays.workload);
            prop_assert!(!stays.reasons.is_empty());
        }
        for workload in &snapshot.workloads {
            let node = snapshot.node(workload.node.as_str()).expect("known");
            let hot = node.availability == Availability::Active && !overloads(node, &policy).is_empty();
            prop_assert_eq!(hot || node.draining, moved.contains(&workload.name), "{}", workload.name);
        }
    }

    #[test]
    fn rules_are_kept_and_nothing_gets_worse(mut snapshot in any_snapshot(), drains in any::<bool>()) {
        // What others have started would go on and change the picture; here only the plan does.
        snapshot.in_flight.clear();
        snapshot.workloads.iter_mut().for_each(|workload| (workload.moved_at, workload.last_from) = (None, None));
        for (at, node) in snapshot.nodes.iter_mut().enumerate() {
            node.tier = Some(["edge", "fog"][at % 2].into());
            node.labels.insert("power".into(), ["mains", "battery"][at / 2 % 2].into());
            node.draining &= drains;
        }
        for (at, workload) in snapshot.workloads.iter_mut().enumerate() {
            workload.labels.insert("app".into(), ["db", "web", "any"][at % 3].into());
        }
        let text = r#"
            concurrency = { per_node = 100, cluster = 100 }
            [[constraints]]
            name = "apart"
            workloads = { app = "db" }
            apart = "node"
            [[constraints]]
            name = "horizontal"
            workloads = { app = "web" }
            within = "tier"
            [[constraints]]
            name = "mains"
            workloads = { app = "any" }
            node_labels = { power = "mains" }"#;
        let policy = Policy::parse(text, "").expect("a policy");
        let plan = plan(&snapshot, &policy, now());
        let after = apply(&snapshot, &plan);
        for migrate in moves(&plan) {
            let workload = snapshot.workload(migrate.workload.as_str()).expect("known");
            let (from, to) = (snapshot.node(migrate.from.as_str()), snapshot.node(migrate.to.as_str()));
            let (from, to) = (from.expect("known"), to.expect("known"));
            match workload.labels["app"].as_str() {
                "db" => {
                    let there = after.workloads.iter().filter(|w| w.labels["app"] == "db" && w.node == to.name).count();
                    prop_assert!(there <= 1, "{there} on {}", to.name);
                }
                "web" => prop_assert_eq!(&from.tier, &to.tier),
                _ => prop_assert_eq!(&to.labels["power"], "mains"),
            }
        }
        // The cluster's cost: what its nodes are above the threshold, and what they can't give at all.
        let cost = |snapshot: &Snapshot| -> f64 {
            let above = |used: Option<f64>, limit: f64| (used.unwrap_or(0.0) - limit).max(0.0);
            snapshot.nodes.iter().map(|node| above(node.cpu, 0.8) + above(node.memory, 0.9)).sum()
        };
        prop_assert!(cost(&after) <= cost(&snapshot) + 1e-9, "{} after {}", cost(&after), cost(&snapshot));
        // Planned again on what came of it, nobody who moved moves, and nobody who got something gives something.
        let again = fog_core::plan(&after, &policy, now());
        for one in moves(&again) {
            prop_assert!(moves(&plan).all(|first| first.workload != one.workload && first.to != one.from), "{}", one.reason);
        }
    }

    #[test]
    fn balance_evens_out_and_then_rests(mut snapshot in any_snapshot()) {
        snapshot.in_flight.clear();
        snapshot.workloads.iter_mut().for_each(|workload| (workload.moved_at, workload.last_from) = (None, None));
        let mut policy = Policy { mode: fog_core::policy::Mode::Balance, ..Policy::default() };
        (policy.concurrency.cluster, policy.concurrency.per_node) = (100, 100);
        let first = plan(&snapshot, &policy, now());
        let busiest = |snapshot: &Snapshot| snapshot.nodes.iter().filter_map(|node| node.cpu).fold(0.0, f64::max);
        let after = apply(&snapshot, &first);
        // Relief from heat or pressure may fill an idle node; evening out never makes the busiest busier.
        let only = moves(&first).all(|migrate| migrate.trigger == fog_core::Trigger::Balance);
        prop_assert!(!only || busiest(&after) <= busiest(&snapshot) + 1e-9);
        for migrate in moves(&first).filter(|migrate| migrate.trigger == fog_core::Trigger::Balance) {
            let load = |name: &str| after.node(name).expect("known").cpu.expect("measured");
            prop_assert!(load(migrate.to.as_str()) <= 0.7 + 1e-9);
        }
        // Even without any cooldown, nobody whom evening out moved goes back. Who left an overloaded node may, once everybody has
        // forgotten it: there the cooldown and `last_from` prevent it (`nothing_comes_back`).
        let mut rested = after.clone();
        rested.workloads.iter_mut().for_each(|workload| (workload.moved_at, workload.last_from) = (None, None));
        let again = plan(&rested, &policy, now());
        for one in moves(&again).filter(|one| one.trigger == fog_core::Trigger::Balance) {
            let mut evened = moves(&first).filter(|first| first.trigger == fog_core::Trigger::Balance);
            prop_assert!(evened.all(|first| first.workload != one.workload || first.from != one.to), "{}", one.reason);
        }
    }

    #[test]
    fn the_order_of_the_lists_does_not_matter(
        (snapshot, shuffled) in any_snapshot().prop_flat_map(|snapshot| {
            let lists = (
                Just(snapshot.nodes.clone()).prop_shuffle(),
                Just(snapshot.links.clone()).prop_shuffle(),
                Just(snapshot.workloads.clone()).prop_shuffle(),
                Just(snapshot.in_flight.clone()).prop_shuffle(),
            );
            let at = snapshot.at;
            let shuffled = lists.prop_map(move |(nodes, links, workloads, in_flight)| Snapshot { at, nodes, links, workloads, in_flight });
            (Just(snapshot), shuffled)
        })
    ) {
        let policy = Policy::default();
        prop_assert_eq!(plan(&snapshot, &policy, now()), plan(&shuffled, &policy, now()));
    }

    #[test]
    fn nothing_comes_back(mut snapshot in any_snapshot(), later in 0..100_000i64) {
        // What others have started would go on and change the picture; here only the plan does.
        snapshot.in_flight.clear();
        snapshot.workloads.iter_mut().for_each(|workload| (workload.moved_at, workload.last_from) = (None, None));
        let policy = Policy::default();
        let first = plan(&snapshot, &policy, now());
        let second = plan(&apply(&snapshot, &first), &policy, now() + SignedDuration::from_secs(later));
        for migrate in moves(&first) {
            prop_assert!(moves(&second).all(|again| again.from != migrate.to), "{} became the next hot node", migrate.to);
            prop_assert!(moves(&second).all(|again| again.workload != migrate.workload), "{} again", migrate.workload);
        }
    }

    #[test]
    fn nonsense_never_panics(
        mut snapshot in any_snapshot(),
        numbers in proptest::collection::vec(prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(0.0), any::<f64>()], 24),
        limits in (any::<u64>(), any::<i64>()),
        twice in any::<bool>(),
    ) {
        let mut numbers = numbers.into_iter().cycle();
        let mut next = || numbers.next().unwrap_or(0.0);
        for node in &mut snapshot.nodes {
            (node.cpu, node.memory, node.cpus, node.cpu_score) = (Some(next()), Some(next()), next(), next());
            (node.run_queue, node.temperature_c, node.memory_bytes) = (Some(next()), Some(next()), limits.0);
            (node.disk, node.disk_bytes) = (Some(next()), Some(limits.0));
            node.position = Some(fog_core::model::Position { lat: next(), lon: next() });
            node.cpu_window = vec![next(), next(), next()];
        }
        for workload in &mut snapshot.workloads {
            (workload.cpus, workload.memory_bytes, workload.failures) = (next(), limits.0, u32::MAX);
            workload.failed_at = jiff::Timestamp::from_second(limits.1).ok();
        }
        snapshot.links.iter_mut().for_each(|link| (link.rtt_ms, link.bandwidth_mbps) = (Some(next()), Some(next())));
        if twice {
            snapshot.nodes.extend(snapshot.nodes.clone());
            snapshot.workloads.extend(snapshot.workloads.clone());
            snapshot.in_flight.push(flight("nobody", "X", "Y"));
        }
        let mut policy = Policy::default();
        policy.constraints.push(fog_core::policy::Constraint {
            name: "nonsense".into(),
            workloads: Default::default(),
            hard: twice,
            weight: next(),
            tiers: Vec::new(),
            sites: Vec::new(),
            node_labels: Default::default(),
            cpu_features: Vec::new(),
            within: None,
            together: Some(fog_core::policy::Scope::Site),
            apart: Some(fog_core::policy::Scope::Node),
            at_most: 0,
        });
        for workload in &mut snapshot.workloads {
            workload.limits = fog_core::model::Limits { cpus: Some(next()), memory_bytes: Some(limits.0) };
            workload.created_with = fog_core::model::Limits { cpus: Some(next()), memory_bytes: Some(limits.0 / 2) };
            workload.last_took_s = Some(next());
        }
        (policy.cost.horizon_s, policy.cost.unknown_mbps, policy.resize.step) = (next(), next(), next());
        (policy.weights.cpu, policy.delay.best_ms, policy.overload.cpu.start) = (next(), next(), next());
        (policy.cooldown.failed_s, policy.sampling.interval_s, policy.headroom.cpu) = (next(), next(), next());
        let _ = (snapshot.check(), policy.check());
        for action in &plan(&snapshot, &policy, now()).actions {
            let _ = recheck(action, &snapshot, &policy, jiff::Timestamp::MAX);
        }
        let _ = place(&snapshot, &policy, "w0", None, None, jiff::Timestamp::MIN);
    }
}
