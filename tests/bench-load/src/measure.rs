//! Steady load, and a restart in the middle of it.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use procfs::Current;
use serde::Serialize;
use std::collections::BTreeMap;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::agents::{Agent, Counts};
use crate::reads::{self, Reads};
use crate::service::Orchestrator;

/// How large the cluster is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub nodes: usize,
    pub containers: usize,
    pub interval: Duration,
}

/// The agents of a cluster; they end with it.
pub struct Cluster {
    pub counts: Arc<Counts>,
    pub interval: watch::Sender<Duration>,
    tasks: JoinSet<()>,
}

impl Cluster {
    /// Starts every agent and waits until all are connected and the first samples are in.
    pub async fn start(orchestrator: &Orchestrator, size: Size) -> Result<Self> {
        let counts = Counts::new()?;
        let (interval, every) = watch::channel(size.interval);
        let mut tasks = JoinSet::new();
        for number in 0..size.nodes {
            let agent = Agent {
                number,
                of: size.nodes,
                containers: size.containers,
                url: orchestrator.url.clone(),
                token: orchestrator.token.clone(),
                interval: every.clone(),
                counts: Arc::clone(&counts),
            };
            tasks.spawn(agent.run());
            if number % 50 == 49 {
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        }
        let this = Self { counts, interval, tasks };
        this.all_connected(size.nodes, Duration::from_secs(300)).await?;
        Ok(this)
    }

    pub async fn all_connected(&self, nodes: usize, deadline: Duration) -> Result<Duration> {
        let begin = Instant::now();
        while self.counts.connected.load(Ordering::Relaxed) < nodes {
            let connected = self.counts.connected.load(Ordering::Relaxed);
            ensure!(begin.elapsed() < deadline, "only {connected} of {nodes} agents are connected");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(begin.elapsed())
    }

    /// Samples that were taken and not acknowledged.
    pub fn outstanding(&self) -> u64 {
        let taken = self.counts.taken.load(Ordering::Relaxed);
        taken.saturating_sub(self.counts.acknowledged.load(Ordering::Relaxed))
    }

    pub fn is_whole(&self) -> bool {
        !self.tasks.is_empty()
    }
}

/// Milliseconds.
#[derive(Debug, Serialize)]
pub struct Spread {
    pub count: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

impl From<&Histogram<u64>> for Spread {
    fn from(histogram: &Histogram<u64>) -> Self {
        let ms = |micros: u64| micros as f64 / 1000.0;
        Self {
            count: histogram.len(),
            p50_ms: ms(histogram.value_at_quantile(0.5)),
            p99_ms: ms(histogram.value_at_quantile(0.99)),
            max_ms: ms(histogram.max()),
        }
    }
}

/// One size's figures.
#[derive(Debug, Serialize)]
pub struct Line {
    nodes: usize,
    containers: usize,
    interval_s: f64,
    seconds: f64,
    /// From an agent's sending to the acknowledgement.
    ingest: Spread,
    samples_per_s: f64,
    /// Samples that were taken and never acknowledged.
    dropped: u64,
    reads: BTreeMap<&'static str, Spread>,
    /// Answers of the API by status.
    answers: BTreeMap<u16, u64>,
    /// Cores that the orchestrator used.
    cores: f64,
    /// Cores that this program used beside it.
    generator_cores: f64,
    memory_mib: f64,
    most_memory_mib: f64,
    /// Memory above 100 MiB, for each node.
    kib_a_node: f64,
    written_kib_per_s: f64,
    planner_p99_below_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    restart: Option<Restart>,
    /// One-minute load average of the machine, before and after.
    load: (f64, f64),
}

/// What a killed and restarted orchestrator did.
#[derive(Debug, Serialize)]
struct Restart {
    /// Until `/readyz` said yes.
    serving_after_s: f64,
    /// Until every agent was connected again.
    connected_after_s: f64,
    /// The most nodes that were called offline or suspect at once in the minute after it.
    most_offline: f64,
    most_suspect: f64,
}

fn own_cpu_s() -> Result<f64> {
    let stat = procfs::process::Process::myself()?.stat()?;
    Ok((stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64)
}

pub fn load_average() -> f64 {
    procfs::LoadAverage::current().map_or(f64::NAN, |load| f64::from(load.one))
}

pub async fn steady(program: &Path, size: Size, seconds: Duration, and_restart: bool) -> Result<Line> {
    let load_before = load_average();
    let mut orchestrator = Orchestrator::start(program).await?;
    let cluster = Cluster::start(&orchestrator, size).await?;
    tokio::time::sleep(size.interval * 2).await;

    let reads = Arc::new(Mutex::new(Reads::default()));
    let reader = tokio::spawn(reads::run(
        orchestrator.http.clone(),
        orchestrator.url.clone(),
        size.nodes,
        Duration::from_millis(20),
        Arc::clone(&reads),
    ));
    cluster.counts.take_latency();
    let (before, own_before, begin) = (orchestrator.usage()?, own_cpu_s()?, Instant::now());
    tokio::time::sleep(seconds).await;
    let (after, own_after, took) = (orchestrator.usage()?, own_cpu_s()?, begin.elapsed());
    let ingest = cluster.counts.take_latency();
    reader.abort();
    let planner_p99_below_s = planner_p99(&orchestrator.metrics().await?);
    let restart = if and_restart { Some(restart(&mut orchestrator, &cluster, size).await?) } else { None };
    // Nothing more is taken; what is under way arrives.
    cluster.interval.send_replace(Duration::from_secs(3600));
    tokio::time::sleep(size.interval + Duration::from_secs(2)).await;
    ensure!(cluster.is_whole(), "an agent has ended");
    let reads = reads.lock().unwrap_or_else(PoisonError::into_inner);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    Ok(Line {
        nodes: size.nodes,
        containers: size.containers,
        interval_s: size.interval.as_secs_f64(),
        seconds: took.as_secs_f64(),
        samples_per_s: ingest.len() as f64 / took.as_secs_f64(),
        ingest: (&ingest).into(),
        dropped: cluster.outstanding(),
        reads: reads.latencies.iter().map(|(kind, latency)| (*kind, latency.into())).collect(),
        answers: reads.answers.clone(),
        cores: after.cores_since(&before),
        generator_cores: (own_after - own_before) / took.as_secs_f64(),
        memory_mib: mib(after.memory_bytes),
        most_memory_mib: mib(after.most_memory_bytes),
        kib_a_node: (mib(after.most_memory_bytes) - 100.0) * 1024.0 / size.nodes as f64,
        written_kib_per_s: after.written_since(&before) / 1024.0,
        planner_p99_below_s,
        restart,
        load: (load_before, load_average()),
    })
}

async fn restart(orchestrator: &mut Orchestrator, cluster: &Cluster, size: Size) -> Result<Restart> {
    let serving = orchestrator.restart().await?;
    let begin = Instant::now();
    let (mut most_offline, mut most_suspect, mut connected_after) = (0.0_f64, 0.0_f64, None);
    while begin.elapsed() < Duration::from_secs(45) {
        most_offline = most_offline.max(orchestrator.metric(r#"fog_nodes{availability="offline"}"#).await?);
        most_suspect = most_suspect.max(orchestrator.metric(r#"fog_nodes{availability="suspect"}"#).await?);
        let connected = orchestrator.metric("fog_agents_connected").await?;
        if connected_after.is_none() && connected >= size.nodes as f64 {
            connected_after = Some(begin.elapsed() + serving);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    cluster.all_connected(size.nodes, Duration::from_secs(60)).await?;
    Ok(Restart {
        serving_after_s: serving.as_secs_f64(),
        connected_after_s: connected_after.map_or(f64::NAN, |after| after.as_secs_f64()),
        most_offline,
        most_suspect,
    })
}

/// The upper bound of the histogram's bucket that holds the 99th percentile.
fn planner_p99(metrics: &str) -> f64 {
    let buckets: Vec<(f64, f64)> = metrics
        .lines()
        .filter_map(|line| {
            let (bound, count) =
                line.strip_prefix(r#"fog_planner_duration_seconds_bucket{le=""#)?.split_once(r#""} "#)?;
            Some((bound.parse().unwrap_or(f64::INFINITY), count.parse().ok()?))
        })
        .collect();
    let all = buckets.iter().map(|(_, count)| *count).fold(0.0, f64::max);
    buckets.iter().find(|(_, count)| *count >= 0.99 * all).map_or(f64::NAN, |(bound, _)| *bound)
}
