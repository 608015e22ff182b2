//! What a snapshot may be, and what is said about one that can't.

mod common;

use common::{flight, link, node, now, thesis, workload};
use fog_core::{Node, Policy, Snapshot, Workload, plan};

#[test]
fn the_documented_example_is_read() {
    let text = r#"
{"at": "2026-11-22T10:00:00Z",
 "nodes": [{"name": "A", "availability": "active", "cordoned": false, "draining": false, "tier": "edge", "site": "turku", "labels": {"power": "mains"},
            "arch": "x86_64", "cpu_features": ["sse4_2", "avx2"], "cpus": 4, "cpu_score": 1.0, "memory_bytes": 8589934592,
            "cpu": 0.90, "cpu_window": [0.88, 0.91, 0.90], "memory": 0.40, "run_queue": 6, "pressure": {"cpu": 0.35, "memory": 0.0, "io": 0.02},
            "temperature_c": 61.0, "position": {"lat": 60.45, "lon": 22.27}},
           {"name": "C", "arch": "x86_64", "cpus": 4, "memory_bytes": 8589934592, "cpu": 0.2, "memory": 0.3}],
 "links": [{"from": "A", "to": "C", "rtt_ms": 2.0, "bandwidth_mbps": 900, "loss": 0.0, "technology": "lan"}],
 "workloads": [{"name": "looper", "node": "A", "cpus": 0.2, "memory_bytes": 4194304, "dirty_bytes_per_s": 40960, "limits": {"cpus": 0.5, "memory_bytes": 67108864},
                "migrate": "auto", "max_downtime_ms": 500, "priority": 0, "labels": {}, "group": null, "moved_at": null, "moves_24h": 0, "last_from": null},
               {"name": "x", "node": "A", "cpus": 0.1, "memory_bytes": 1}],
 "in_flight": [{"workload": "x", "from": "A", "to": "C"}]}"#;
    let snapshot: Snapshot = serde_json::from_str(text).expect("the example");
    assert_eq!(snapshot.check(), Ok(()));
    assert_eq!(plan(&snapshot, &Policy::default(), now()).actions.len(), 1);
    let error = serde_json::from_str::<Snapshot>(&text.replace("rtt_ms", "rtt")).expect_err("an unknown field");
    assert!(error.to_string().contains("unknown field `rtt`"), "{error}");
    let empty: Snapshot = serde_json::from_str(r#"{"at": "2026-11-22T10:00:00Z"}"#).expect("an empty cluster");
    assert_eq!(empty.check(), Ok(()));
    assert!(plan(&empty, &Policy::default(), now()).actions.is_empty());
}

#[test]
fn the_thesis_is_valid() {
    assert_eq!(thesis().check(), Ok(()));
}

fn complaint(change: impl FnOnce(&mut Snapshot)) -> String {
    let mut snapshot = thesis();
    change(&mut snapshot);
    let problems = snapshot.check().expect_err("a problem").problems;
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_number_out_of_range_has_its_own_message() {
    let of_node = |change: fn(&mut Node)| complaint(|snapshot| change(&mut snapshot.nodes[2]));
    let of_workload = |change: fn(&mut Workload)| complaint(|snapshot| change(&mut snapshot.workloads[0]));
    for (said, expected) in [
        (of_node(|n| n.cpu = Some(f64::NAN)), "nodes[2].cpu: it is not a number (NaN); give a number from 0 to 1"),
        (of_node(|n| n.cpu = Some(-0.1)), "nodes[2].cpu: -0.1 is negative; give a number from 0 to 1"),
        (
            of_node(|n| n.memory = Some(40.0)),
            "nodes[2].memory: 40 is above 1: it is a fraction of the capacity, not a percentage; give a number from 0 to 1",
        ),
        (
            of_node(|n| n.cpu_window[1] = f64::INFINITY),
            "nodes[2].cpu_window[1]: it is infinite; give a number from 0 to 1",
        ),
        (
            of_node(|n| n.disk = Some(90.0)),
            "nodes[2].disk: 90 is above 1: it is a fraction of the capacity, not a percentage; give a number from 0 to 1",
        ),
        (
            of_node(|n| n.disk_bytes = Some(0)),
            "nodes[2].disk_bytes: it is 0; give the disk's size, or null if it is not known",
        ),
        (of_node(|n| n.cpus = 0.0), "nodes[2].cpus: 0 is out of range; give a number above 0"),
        (of_node(|n| n.cpu_score = -1.0), "nodes[2].cpu_score: -1 is negative; give a number above 0"),
        (of_node(|n| n.memory_bytes = 0), "nodes[2].memory_bytes: it is 0; give the memory that the node may use"),
        (of_node(|n| n.run_queue = Some(-3.0)), "nodes[2].run_queue: -3 is negative; give a number of 0 or more"),
        (of_node(|n| n.arch.clear()), "nodes[2].arch: it is empty; give what `uname -m` says, e.g. x86_64"),
        (
            of_node(|n| n.temperature_c = Some(900.0)),
            "nodes[2].temperature_c: 900 is out of range; give a number from -100 to 200",
        ),
        (of_workload(|w| w.cpus = f64::NAN), "workloads[0].cpus: it is not a number (NaN); give a number of 0 or more"),
        (
            of_workload(|w| w.limits.cpus = Some(0.0)),
            "workloads[0].limits.cpus: 0 is out of range; give a number above 0",
        ),
        (
            of_workload(|w| w.max_downtime_ms = Some(0)),
            "workloads[0].max_downtime_ms: it is 0: no migration is without downtime; give at least 1, or set migrate to \"never\"",
        ),
        (complaint(|s| s.links[0].rtt_ms = Some(-2.0)), "links[0].rtt_ms: -2 is negative; give a number of 0 or more"),
    ] {
        assert_eq!(said, expected);
    }
}

#[test]
fn every_name_that_leads_nowhere_or_is_there_twice_is_named() {
    for (said, expected) in [
        (
            complaint(|s| s.nodes.push(node("B", 0.1))),
            "nodes[4].name: \"B\" is there twice, first as nodes[1].name; remove or rename one of the two",
        ),
        (
            complaint(|s| s.workloads.push(workload("looper", "B", 0.1))),
            "workloads[1].name: \"looper\" is there twice, first as workloads[0].name; remove or rename one of the two",
        ),
        (
            complaint(|s| s.workloads.push(workload("web", "node-7", 0.1))),
            "workloads[1].node: node \"node-7\" is not in `nodes`; add it there or correct the name",
        ),
        (
            complaint(|s| s.links.push(link("A", "A", 1.0))),
            "links[3].to: the link leads from A to A; name two different nodes",
        ),
        (
            complaint(|s| s.links.push(link("A", "C", 1.0))),
            "links[3]: \"A to C\" is there twice, first as links[1]; remove or rename one of the two",
        ),
        (
            complaint(|s| s.in_flight.push(flight("loper", "A", "C"))),
            "in_flight[0].workload: workload \"loper\" is not in `workloads`; add it there or correct the name (did you mean \"looper\"?)",
        ),
    ] {
        assert_eq!(said, expected);
    }
}

#[test]
fn rules_that_go_round_in_a_circle_are_refused() {
    let policy = |last: &str| {
        let text = format!(
            r#"
            [[constraints]]
            name = "store"
            workloads = {{ store = "yes" }}
            together = "node"
            [[constraints]]
            name = "front"
            workloads = {{ front = "yes" }}
            together = "node"
            [[constraints]]
            name = "two sites"
            workloads = {{ ends = "yes" }}
            {last}"#
        );
        Policy::parse(&text, "").expect("a policy")
    };
    let mut snapshot = thesis();
    for (name, labels) in
        [("web", vec!["front", "ends"]), ("cache", vec!["store", "front"]), ("db", vec!["store", "ends"])]
    {
        let mut one = workload(name, "B", 0.1);
        one.labels = labels.into_iter().map(|label| (label.to_owned(), "yes".to_owned())).collect();
        snapshot.workloads.push(one);
    }
    let refused = snapshot.check_with(&policy("apart = \"site\"")).expect_err("a circle");
    let said: Vec<String> = refused.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "workloads[1].labels: the rules go round in a circle: \"two sites\" wants at most 1 of 2 in a place, and db and web belong \
          together by \"front\" and \"store\"; remove one of these rules, set hard = false in it, or change the workloads' labels"
        ]
    );
    // Each of these breaks the circle.
    assert_eq!(snapshot.check_with(&policy("apart = \"site\"\nat_most = 2")), Ok(()));
    assert_eq!(snapshot.check_with(&policy("apart = \"site\"\nhard = false")), Ok(()));
    snapshot.workloads.retain(|workload| workload.name != "cache");
    assert_eq!(snapshot.check_with(&policy("apart = \"site\"")), Ok(()));
}

#[test]
fn the_schema_is_fresh() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/snapshot.schema.json");
    let schema = schemars::schema_for!(fog_core::Snapshot);
    let fresh = serde_json::to_string_pretty(&schema).expect("json") + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&file, &fresh).expect("written");
    }
    assert!(
        std::fs::read_to_string(&file).unwrap_or_default() == fresh,
        "config/snapshot.schema.json is stale: run `UPDATE_SCHEMA=1 cargo test -p fog-core schema` and commit it"
    );
}
