//! What is watched: `/metrics`, the committed alert rules and the committed dashboard, against a real Prometheus.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use fog_api::agent::{Failure, FailureKind, Step};
use fog_api::migration::Phase;
use fog_sim::world::World;
use support::Orchestrator;

fn committed(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/monitoring").join(file)
}

fn program(name: &str) -> Command {
    Command::new(std::env::var_os("FOG_PROMETHEUS_DIR").map_or(name.into(), |dir| PathBuf::from(dir).join(name)))
}

/// A migration that goes well and one that is rolled back.
async fn busy(world: &Arc<World>) -> Orchestrator {
    let mut orchestrator = Orchestrator::start().await;
    world.run("A", "web");
    world.run("A", "db");
    orchestrator.node(world, "A", 0.3, &[("B", 2.0)]);
    orchestrator.node(world, "B", 0.2, &[("A", 2.0)]);
    orchestrator.active(2).await;
    orchestrator.workload_on("web", "A").await;
    orchestrator.workload_on("db", "A").await;
    let id = orchestrator.migrate("web", "B").await;
    assert_eq!(orchestrator.over(&id).await.phase, Phase::Done);
    world.set_fault(Box::new(|_, step| {
        (step == Step::Restore).then(|| Failure {
            kind: FailureKind::Runtime,
            message: "failed on purpose".into(),
            log: Vec::new(),
        })
    }));
    let id = orchestrator.migrate("db", "B").await;
    assert_eq!(orchestrator.over(&id).await.phase, Phase::RolledBack);
    orchestrator
}

async fn metrics(orchestrator: &Orchestrator) -> String {
    let response = orchestrator.http.get(format!("{}/metrics", orchestrator.url)).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    response.text().await.unwrap()
}

fn value(metrics: &str, series: &str) -> f64 {
    let line = metrics.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
    let line = line.unwrap_or_else(|| panic!("no {series} in\n{metrics}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_metrics_say_what_happened() {
    let world = Arc::new(World::default());
    let orchestrator = busy(&world).await;
    let text = metrics(&orchestrator).await;
    for (series, expected) in [
        (r#"fog_nodes{availability="active"}"#, 2.0),
        (r#"fog_nodes{availability="offline"}"#, 0.0),
        ("fog_agents_connected", 2.0),
        (r#"fog_agents{version="simulated"}"#, 2.0),
        (r#"fog_node_utilization_ratio{rank="median",resource="cpu"}"#, 0.2),
        (r#"fog_node_utilization_ratio{rank="max",resource="cpu"}"#, 0.3),
        (r#"fog_workloads{state="running"}"#, 2.0),
        (r#"fog_migrations_total{asked_by="user",outcome="done",strategy="stop-and-copy"}"#, 1.0),
        (r#"fog_migrations_total{asked_by="user",outcome="rolled-back",strategy="stop-and-copy"}"#, 1.0),
        (r#"fog_migration_failures_total{step="restore"}"#, 1.0),
        (r#"fog_migration_downtime_seconds_count{strategy="stop-and-copy"}"#, 1.0),
        (r#"fog_migration_duration_seconds_count{outcome="done"}"#, 1.0),
        (r#"fog_http_request_duration_seconds_count{method="POST",route="/v1/migrations",status="2xx"}"#, 2.0),
    ] {
        assert_eq!(value(&text, series), expected, "{series}");
    }
    for at_least_one in
        ["fog_ingest_samples_total", "fog_planner_duration_seconds_count", "fog_process_resident_memory_bytes"]
    {
        assert!(value(&text, at_least_one) >= 1.0, "{at_least_one}\n{text}");
    }
}

#[tokio::test]
async fn more_nodes_make_no_more_series() {
    let world = Arc::new(World::default());
    let mut orchestrator = busy(&world).await;
    let series = |text: String| -> BTreeSet<String> {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        // Requests make series by route and answer; those differ with what this test happens to ask.
        let samples = samples.filter(|line| !line.starts_with("fog_http_request_duration_seconds"));
        samples.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
    };
    let before = series(metrics(&orchestrator).await);
    for name in ["C", "D", "E", "F"] {
        world.run(name, &format!("of-{name}"));
        orchestrator.node(&world, name, 0.1, &[("A", 2.0)]);
    }
    orchestrator.active(6).await;
    orchestrator.workload_on("of-F", "F").await;
    let after = series(metrics(&orchestrator).await);
    assert_eq!(after.difference(&before).collect::<Vec<_>>(), Vec::<&String>::new());
}

struct Prometheus {
    process: Child,
    url: String,
    http: reqwest::Client,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Prometheus {
    /// The committed configuration, but for the address and the pace.
    fn start(dir: &Path, orchestrator: &Orchestrator) -> Self {
        let address = orchestrator.url.trim_start_matches("http://");
        let config = std::fs::read_to_string(committed("prometheus.yml")).unwrap();
        assert!(config.contains("127.0.0.1:7700") && config.contains("15s"), "{config}");
        let config = config.replace("127.0.0.1:7700", address).replace("15s", "200ms");
        std::fs::write(dir.join("prometheus.yml"), config).unwrap();
        let rules = std::fs::read_to_string(committed("alerts.yml")).unwrap();
        assert!(rules.contains("for: 1m"), "{rules}");
        std::fs::write(dir.join("alerts.yml"), rules.replace("for: 1m\n", "for: 1s\n")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let process = program("prometheus")
            .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus: make monitoring brings it");
        Self { process, url: format!("http://127.0.0.1:{port}"), http: reqwest::Client::new() }
    }

    async fn ask(&self, path: &str, expression: &str) -> Option<serde_json::Value> {
        let form = format!("query={}", encode(expression));
        let request = self.http.post(format!("{}/api/v1/{path}", self.url)).body(form);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let answer: serde_json::Value = request.send().await.ok()?.json().await.ok()?;
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        Some(answer["data"]["result"].clone())
    }
}

fn encode(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Every expression of the dashboard and of the rules, with what Grafana would put in.
fn expressions() -> Vec<String> {
    let dashboard: serde_json::Value =
        serde_json::from_slice(&std::fs::read(committed("dashboard.json")).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let drawn = targets.map(|target| target["expr"].as_str().unwrap());
    let marked = dashboard["annotations"]["list"].as_array().unwrap().iter().map(|mark| mark["expr"].as_str().unwrap());
    let all: Vec<String> =
        drawn.chain(marked).map(|e| e.replace("$__rate_interval", "1m").replace("$__range", "1h")).collect();
    assert!(all.len() >= 20, "{all:?}");
    assert!(all.iter().all(|expression| !expression.contains('$')), "{all:?}");
    all
}

fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
    words.filter(|word| word.starts_with("fog_")).map(str::to_owned).collect()
}

#[tokio::test]
#[ignore = "needs Debian's prometheus: make monitoring"]
async fn prometheus_understands_the_metrics_the_rules_and_the_dashboard() {
    let world = Arc::new(World::default());
    let mut orchestrator = busy(&world).await;

    let mut check = program("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).spawn().unwrap();
    check.stdin.take().unwrap().write_all(metrics(&orchestrator).await.as_bytes()).unwrap();
    assert!(check.wait().unwrap().success(), "promtool finds fault with the metrics");
    for arguments in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]] {
        let status = program("promtool").args(arguments).current_dir(committed("")).status().unwrap();
        assert!(status.success(), "promtool {arguments:?}");
    }

    let dir = tempfile::tempdir().unwrap();
    let prometheus = Prometheus::start(dir.path(), &orchestrator);
    let is_one = |answer: serde_json::Value| (answer[0]["value"][1] == "1").then_some(());
    orchestrator
        .until("Prometheus has scraped", || async {
            prometheus.ask("query", r#"up{job="fogshift"}"#).await.and_then(is_one)
        })
        .await;
    let rules = std::fs::read_to_string(committed("alerts.yml")).unwrap();
    let expressions = expressions();
    let mut used = names(&rules);
    used.extend(expressions.iter().flat_map(|expression| names(expression)));
    assert!(used.len() >= 20, "{used:?}");
    for name in &used {
        let answer = prometheus.ask("query", &format!("count({name})")).await.unwrap();
        assert!(answer[0].is_object(), "no metric is called {name}");
    }
    for expression in &expressions {
        prometheus.ask("query", expression).await.unwrap();
    }

    orchestrator.kill();
    orchestrator
        .until("the alert fires", || async {
            let firing = r#"ALERTS{alertname="FogOrchestratorDown", alertstate="firing"}"#;
            prometheus.ask("query", firing).await.and_then(is_one)
        })
        .await;
    orchestrator.restart().await;
    orchestrator
        .until("the alert is over", || async {
            let firing = prometheus.ask("query", r#"ALERTS{alertname="FogOrchestratorDown"}"#).await?;
            firing.as_array().is_some_and(Vec::is_empty).then_some(())
        })
        .await;
}
