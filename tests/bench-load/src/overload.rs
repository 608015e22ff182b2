//! More than it can do: every agent at twice the pace, as many batches and reads as a few clients can bring, and
//! migrations in the middle of it. What is turned away, what keeps its place, and what is left of it when it ends.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fog_api::agent::{SAMPLES_PATH, SampleBatch, SampleReport};
use fog_sim::node::{Load, SimNode};
use fog_sim::world::World;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::agents::{Agent, Counts};
use crate::measure::{Cluster, Size, Spread, load_average};
use crate::reads::{self, Reads};
use crate::service::Orchestrator;

/// Nodes in one request of the batch endpoint.
const BATCH: usize = 500;

#[derive(Debug, Serialize)]
pub struct Report {
    nodes: usize,
    /// The batch endpoint alone, with the agents at their usual pace.
    batch_values_per_s: f64,
    batch_cores: f64,
    before: Phase,
    during: Phase,
    after: Phase,
    batches: BTreeMap<u16, u64>,
    reads: BTreeMap<u16, u64>,
    /// Answers with 429 that said when to come again, of all with 429.
    with_retry_after: (u64, u64),
    /// Migrations asked for during the overload: how long each took, in seconds.
    migrations_s: Vec<f64>,
    violations: usize,
    most_offline: f64,
    /// From the end of the overload until reads and batches are taken again.
    recovered_after_s: f64,
    dropped: u64,
    memory_mib: f64,
    load: (f64, f64),
}

#[derive(Debug, Serialize)]
struct Phase {
    ingest: Spread,
    samples_per_s: f64,
    cores: f64,
}

#[derive(Debug, Default)]
struct Batches {
    answers: Mutex<BTreeMap<u16, u64>>,
    with_retry_after: AtomicU64,
}

async fn phase(orchestrator: &Orchestrator, cluster: &Cluster, seconds: Duration) -> Result<Phase> {
    cluster.counts.take_latency();
    let (before, begin) = (orchestrator.usage()?, Instant::now());
    tokio::time::sleep(seconds).await;
    let ingest = cluster.counts.take_latency();
    Ok(Phase {
        samples_per_s: ingest.len() as f64 / begin.elapsed().as_secs_f64(),
        ingest: (&ingest).into(),
        cores: orchestrator.usage()?.cores_since(&before),
    })
}

/// Brings batches, one after the other, until it is dropped.
async fn bring(orchestrator: Target, size: Size, client: usize, batches: Arc<Batches>) -> Result<()> {
    let counts = Counts::new()?;
    let (_keep, interval) = tokio::sync::watch::channel(size.interval);
    let mut turn = client;
    loop {
        let first = (turn * BATCH) % size.nodes;
        turn += 1;
        let reports = (first..(first + BATCH).min(size.nodes)).map(|number| {
            let agent = Agent {
                number,
                of: size.nodes,
                containers: size.containers,
                url: String::new(),
                token: String::new(),
                interval: interval.clone(),
                counts: Arc::clone(&counts),
            };
            SampleReport { node: crate::agents::name(number), samples: vec![agent.sample(turn as u64)] }
        });
        let batch = SampleBatch { reports: reports.collect() };
        let request = orchestrator.http.post(format!("{}{SAMPLES_PATH}", orchestrator.url));
        let answer = request.bearer_auth(&orchestrator.token).json(&batch).send().await;
        let Ok(answer) = answer else { continue };
        let status = answer.status().as_u16();
        *batches.answers.lock().unwrap_or_else(PoisonError::into_inner).entry(status).or_default() += 1;
        if status == 429 {
            batches
                .with_retry_after
                .fetch_add(u64::from(answer.headers().contains_key("retry-after")), Ordering::Relaxed);
            // Ruder than it was asked to be.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let _ = answer.bytes().await;
    }
}

#[derive(Clone)]
struct Target {
    http: reqwest::Client,
    url: String,
    token: String,
}

async fn migrate(target: &Target, workload: &str, to: &str) -> Result<f64> {
    let begin = Instant::now();
    let body = serde_json::json!({ "workload": workload, "destination": to });
    let request = target.http.post(format!("{}/v1/migrations", target.url)).bearer_auth(&target.token).json(&body);
    let answer = request.send().await?;
    let status = answer.status();
    let asked: serde_json::Value = answer.json().await?;
    ensure!(status == 202, "migrating {workload}: {status} {asked}");
    let id = asked["id"].as_str().context("no id")?.to_owned();
    loop {
        let answer = target.http.get(format!("{}/v1/migrations/{id}", target.url)).send().await?;
        if answer.status().is_success() {
            let migration: serde_json::Value = answer.json().await?;
            match migration["phase"].as_str() {
                Some("done") => return Ok(begin.elapsed().as_secs_f64()),
                Some("rolled-back" | "failed") => anyhow::bail!("{migration}"),
                _ => {}
            }
        }
        ensure!(begin.elapsed() < Duration::from_secs(60), "the migration of {workload} does not end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub async fn run(program: &Path, size: Size, seconds: Duration) -> Result<Report> {
    let load_before = load_average();
    let orchestrator = Orchestrator::start(program).await?;
    let target =
        Target { http: orchestrator.http.clone(), url: orchestrator.url.clone(), token: orchestrator.token.clone() };
    let world = Arc::new(World::default());
    let mut movers = JoinSet::new();
    for name in ["mover-a", "mover-b"] {
        let load = Load { cpu: 0.2, memory: 0.2, rtt_ms: BTreeMap::new() };
        let node = SimNode::new(name, load, &world, size.interval);
        movers.spawn(node.run(target.url.clone(), target.token.clone()));
    }
    let names: Vec<String> = (0..5).map(|number| format!("moving-{number}")).collect();
    names.iter().for_each(|name| world.run("mover-a", name));
    let cluster = Cluster::start(&orchestrator, size).await?;
    tokio::time::sleep(size.interval * 2).await;
    let before = phase(&orchestrator, &cluster, seconds).await?;

    // The batch endpoint alone: two clients.
    let batches = Arc::new(Batches::default());
    let mut clients = JoinSet::new();
    for client in 0..2 {
        clients.spawn(bring(target.clone(), size, client, Arc::clone(&batches)));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let values = "fog_ingest_values_total";
    let (begin, usage, count) = (Instant::now(), orchestrator.usage()?, orchestrator.metric(values).await?);
    tokio::time::sleep(seconds).await;
    let batch_values_per_s = (orchestrator.metric(values).await? - count) / begin.elapsed().as_secs_f64();
    let batch_cores = orchestrator.usage()?.cores_since(&usage);

    // Everything at once.
    for client in 2..6 {
        clients.spawn(bring(target.clone(), size, client * 17, Arc::clone(&batches)));
    }
    let reads = Arc::new(Mutex::new(Reads::default()));
    for _ in 0..96 {
        let (http, url) = (target.http.clone(), target.url.clone());
        clients.spawn(reads::run(http, url, size.nodes, Duration::from_millis(5), Arc::clone(&reads)));
    }
    cluster.interval.send_replace(size.interval / 2);
    let moving = {
        let target = target.clone();
        tokio::spawn(async move {
            let mut took = Vec::new();
            for name in names {
                took.push(migrate(&target, &name, "mover-b").await?);
            }
            anyhow::Ok(took)
        })
    };
    let offline = r#"fog_nodes{availability="offline"}"#;
    let during = phase(&orchestrator, &cluster, seconds).await?;
    let mut most_offline = orchestrator.metric(offline).await?;
    let migrations_s = moving.await??;
    clients.shutdown().await;
    cluster.interval.send_replace(size.interval);
    let ended = Instant::now();
    loop {
        let read = target.http.get(format!("{}/v1/nodes?limit=1", target.url)).send().await?;
        let empty = serde_json::json!({ "reports": [] });
        let batch = target.http.post(format!("{}{SAMPLES_PATH}", target.url)).bearer_auth(&target.token).json(&empty);
        if read.status().is_success() && batch.send().await?.status().is_success() {
            break;
        }
        ensure!(ended.elapsed() < Duration::from_secs(60), "it does not recover");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let recovered_after_s = ended.elapsed().as_secs_f64();
    tokio::time::sleep(size.interval * 2).await;
    let after = phase(&orchestrator, &cluster, seconds).await?;
    most_offline = most_offline.max(orchestrator.metric(offline).await?);
    cluster.interval.send_replace(Duration::from_secs(3600));
    tokio::time::sleep(size.interval + Duration::from_secs(2)).await;
    let reads = reads.lock().unwrap_or_else(PoisonError::into_inner);
    let answers = batches.answers.lock().unwrap_or_else(PoisonError::into_inner);
    let turned_away = |answers: &BTreeMap<u16, u64>| answers.get(&429).copied().unwrap_or(0);
    Ok(Report {
        nodes: size.nodes,
        batch_values_per_s,
        batch_cores,
        before,
        during,
        after,
        reads: reads.answers.clone(),
        with_retry_after: (
            reads.with_retry_after + batches.with_retry_after.load(Ordering::Relaxed),
            turned_away(&reads.answers) + turned_away(&answers),
        ),
        batches: answers.clone(),
        migrations_s,
        violations: world.violations().len(),
        most_offline,
        recovered_after_s,
        dropped: cluster.outstanding(),
        memory_mib: orchestrator.usage()?.most_memory_bytes as f64 / f64::from(1 << 20),
        load: (load_before, load_average()),
    })
}
