//! Lists: filters, order, pages; a node's past; links; decisions with everything they rest on.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;

use fog_sim::world::World;
use serde_json::Value;
use support::Orchestrator;

async fn fleet(world: &Arc<World>) -> Orchestrator {
    let mut orchestrator = Orchestrator::start().await;
    for (node, cpu) in [("A", 0.3), ("B", 0.2), ("C", 0.1)] {
        let others: Vec<_> = ["A", "B", "C"].into_iter().filter(|other| *other != node).map(|o| (o, 2.0)).collect();
        for index in 0..4 {
            world.run(node, &format!("w{node}{index}"));
        }
        orchestrator.node(world, node, cpu, &others);
    }
    orchestrator.active(3).await;
    orchestrator.workload_on("wC3", "C").await;
    orchestrator
}

/// Every item's `field`, page by page.
async fn walk(orchestrator: &Orchestrator, path: &str, limit: usize, field: &str) -> Vec<Value> {
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = orchestrator.get(&format!("{path}limit={limit}{cursor}")).await;
        let items = page["items"].as_array().unwrap_or_else(|| panic!("{page}"));
        assert!(items.len() <= limit);
        seen.extend(items.iter().map(|item| item[field].clone()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return seen,
        }
    }
}

#[tokio::test]
async fn a_list_walked_in_pages_of_any_size_is_the_whole_list_in_order() {
    let world = Arc::new(World::default());
    let orchestrator = fleet(&world).await;
    let all: Vec<Value> = ["A", "B", "C"].iter().flat_map(|n| (0..4).map(move |i| format!("w{n}{i}").into())).collect();
    for limit in [1, 5, 12, 1000] {
        assert_eq!(walk(&orchestrator, "/v1/workloads?", limit, "name").await, all);
        let backwards = walk(&orchestrator, "/v1/workloads?sort=-name&", limit, "name").await;
        assert!(backwards.iter().eq(all.iter().rev()), "{backwards:?}");
    }
    assert_eq!(walk(&orchestrator, "/v1/workloads?node=B&name=2&", 3, "name").await, ["wB2"]);
    assert_eq!(walk(&orchestrator, "/v1/workloads?moving=true&", 3, "name").await, Vec::<Value>::new());
    assert_eq!(walk(&orchestrator, "/v1/nodes?sort=-cpu&", 2, "name").await, ["A", "B", "C"]);
    assert_eq!(walk(&orchestrator, "/v1/nodes?cordoned=true&", 2, "name").await, Vec::<Value>::new());
    let links = walk(&orchestrator, "/v1/links?node=A&", 3, "to").await;
    assert_eq!(links, ["B", "C", "A", "A"]);
}

#[tokio::test]
async fn stored_lists_are_filtered_sorted_and_paged_like_the_others() {
    let world = Arc::new(World::default());
    let orchestrator = fleet(&world).await;
    let mut ids = Vec::new();
    for (workload, to) in [("wA0", "B"), ("wB0", "C"), ("wA1", "C"), ("wC0", "A"), ("wA0", "C")] {
        let id = orchestrator.migrate(workload, to).await;
        orchestrator.over(&id).await;
        ids.push(Value::from(id));
    }
    for limit in [1, 2, 7] {
        let newest_first = walk(&orchestrator, "/v1/migrations?", limit, "id").await;
        assert!(newest_first.iter().eq(ids.iter().rev()), "{newest_first:?}");
        assert_eq!(walk(&orchestrator, "/v1/migrations?sort=created_at&", limit, "id").await, ids);
        let by_name = walk(&orchestrator, "/v1/migrations?sort=workload&", limit, "workload").await;
        assert_eq!(by_name, ["wA0", "wA0", "wA1", "wB0", "wC0"]);
        let by_downtime = walk(&orchestrator, "/v1/migrations?sort=-downtime_ms&", limit, "id").await;
        assert_eq!(by_downtime.len(), 5);
        assert_eq!(by_downtime.iter().map(Value::to_string).collect::<BTreeSet<_>>().len(), 5, "none twice");
        assert_eq!(walk(&orchestrator, "/v1/decisions?source=A&", limit, "destination").await, ["C", "B"]);
    }
    assert_eq!(walk(&orchestrator, "/v1/migrations?workload=wA0&destination=C&", 2, "id").await, ids[4..]);
    assert_eq!(walk(&orchestrator, "/v1/migrations?over=false&", 2, "id").await, Vec::<Value>::new());
    assert_eq!(walk(&orchestrator, "/v1/migrations?until=2020-01-01T00:00:00Z&", 2, "id").await, Vec::<Value>::new());
    let decision = &orchestrator.get("/v1/decisions?limit=1").await["items"][0];
    assert_eq!((&decision["trigger"], &decision["asked_by"]), (&"manual".into(), &"user".into()));
    for candidate in decision["candidates"].as_array().unwrap() {
        assert!(candidate["penalties"].is_array() && candidate["factors"]["cpu"]["weight"].is_number(), "{candidate}");
    }
}

#[tokio::test]
async fn a_node_s_past_is_given_in_steps_and_a_foolish_range_is_refused() {
    let world = Arc::new(World::default());
    let orchestrator = fleet(&world).await;
    let five = || async {
        let past = orchestrator.get("/v1/nodes/A/samples?step_s=1").await;
        let count: u64 = past["points"].as_array()?.iter().map(|point| point["samples"].as_u64().unwrap()).sum();
        (count >= 5).then_some(past)
    };
    let past = orchestrator.until("five samples are kept", five).await;
    assert_eq!((&past["node"], &past["step_s"]), (&"A".into(), &1.into()));
    let point = &past["points"][0];
    assert!((point["cpu"].as_f64().unwrap() - 0.3).abs() < 1e-9 && point["cpu_max"] == point["cpu"], "{point}");
    let coarse = orchestrator.get("/v1/nodes/A/samples?step_s=86400").await;
    assert!(coarse["points"].as_array().unwrap().len() <= 2, "{coarse}");
    for (query, parameter) in [
        ("from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "from"),
        ("from=2020-01-01T00:00:00Z&to=2026-01-01T00:00:00Z&step_s=1", "step_s"),
        ("step_s=0", "step_s"),
        ("from=yesterday", "from"),
        ("form=2020-01-01T00:00:00Z", "form"),
    ] {
        let problem = orchestrator.get(&format!("/v1/nodes/A/samples?{query}")).await;
        assert_eq!(
            (&problem["status"], &problem["errors"][0]["parameter"]),
            (&400.into(), &parameter.into()),
            "{query}"
        );
    }
}

#[tokio::test]
async fn what_no_list_understands_is_named() {
    let orchestrator = Orchestrator::start().await;
    for (query, parameter, words) in [
        ("limit=0", "limit", "1 to 1000"),
        ("limit=1001", "limit", "1 to 1000"),
        ("limit=many", "limit", "invalid digit"),
        ("sort=colour", "sort", "-name"),
        ("cursor=abc", "cursor", "next_cursor"),
        ("availability=gone", "availability", "offline"),
        ("cordoned=perhaps", "cordoned", "true"),
        ("colour=red", "colour", "expected one of"),
        ("name=a&name=b", "name", "duplicate"),
    ] {
        let problem = orchestrator.get(&format!("/v1/nodes?{query}")).await;
        assert_eq!(problem["type"], "urn:fogshift:problem:malformed", "{query}: {problem}");
        let error = &problem["errors"][0];
        assert_eq!(error["parameter"], parameter, "{query}: {problem}");
        assert!(error["detail"].as_str().unwrap().contains(words), "{query}: {problem}");
    }
}
