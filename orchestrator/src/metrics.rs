//! What `/metrics` says: counters and histograms that the service feeds as it works, and gauges that are read off the
//! service when somebody asks. Base units (seconds, bytes, ratios 0 to 1), the prefix `fog_`, and no label whose values
//! grow with the cluster: a node's own figures are in the API.

mod gauges;

use std::time::Duration;

use fog_api::migration::{Migration, Phase};
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry, TextEncoder, exponential_buckets,
};

use crate::app::Service;
use gauges::Gauges;

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    gauges: std::sync::Mutex<Gauges>,
    migrations: IntCounterVec,
    failures: IntCounterVec,
    downtime: HistogramVec,
    duration: HistogramVec,
    sent_bytes: IntCounter,
    checkpoint_bytes: IntCounter,
    /// Building the snapshot and planning, in seconds.
    pub planner: Histogram,
    /// Actions that the planner asked for.
    pub planned: IntCounterVec,
    /// Samples that were stored.
    pub samples: IntCounter,
    /// Metric values in those samples.
    pub values: IntCounter,
    /// From the arrival of a batch of samples until it is stored, in seconds.
    pub ingest: Histogram,
    /// Age of the newest sample of a batch when it arrived, in seconds; the node's clock has a part in it.
    pub lag: Histogram,
    /// Messages of agents that could not be read.
    pub unreadable: IntCounter,
    /// Work that was turned away with 429.
    pub shed: IntCounterVec,
    http: HistogramVec,
}

struct Builder(Registry);

impl Builder {
    fn keep<C: prometheus::core::Collector + Clone + 'static>(&self, collector: C) -> prometheus::Result<C> {
        self.0.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.keep(IntCounter::new(name, help)?)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
        self.keep(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn histogram(&self, name: &str, help: &str, buckets: Vec<f64>) -> prometheus::Result<Histogram> {
        self.keep(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?)
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        buckets: Vec<f64>,
        labels: &[&str],
    ) -> prometheus::Result<HistogramVec> {
        self.keep(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), labels)?)
    }
}

impl Metrics {
    /// Every metric at zero.
    pub fn new() -> prometheus::Result<Self> {
        let new = Builder(Registry::new());
        let downtime = vec![0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0];
        let quick = exponential_buckets(0.000_5, 2.0, 13)?; // to 2 s
        let metrics = Self {
            gauges: std::sync::Mutex::new(Gauges::new(&new)?),
            migrations: new.counters(
                "fog_migrations_total",
                "Migrations that are over.",
                &["outcome", "strategy", "asked_by"],
            )?,
            failures: new.counters(
                "fog_migration_failures_total",
                "Migrations that did not end as asked, by the step that failed; none: no step did.",
                &["step"],
            )?,
            downtime: new.histograms(
                "fog_migration_downtime_seconds",
                "From the freeze on the source to the first instruction on the destination.",
                downtime,
                &["strategy"],
            )?,
            duration: new.histograms(
                "fog_migration_duration_seconds",
                "From the decision to the end.",
                exponential_buckets(0.1, 2.0, 14)?, // to 14 min
                &["outcome"],
            )?,
            sent_bytes: new.counter("fog_migration_sent_bytes_total", "Sent from agent to agent by migrations.")?,
            checkpoint_bytes: new.counter("fog_migration_checkpoint_bytes_total", "Size of CRIU's images.")?,
            planner: new.histogram(
                "fog_planner_duration_seconds",
                "Building the snapshot and planning.",
                exponential_buckets(0.000_1, 4.0, 9)?, // to 6.6 s
            )?,
            planned: new.counters("fog_planner_actions_total", "What the planner asked for.", &["action"])?,
            samples: new.counter("fog_ingest_samples_total", "Samples of nodes that were stored.")?,
            values: new.counter("fog_ingest_values_total", "Metric values in those samples.")?,
            ingest: new.histogram(
                "fog_ingest_duration_seconds",
                "From the arrival of a batch of samples until it is stored.",
                quick.clone(),
            )?,
            lag: new.histogram(
                "fog_ingest_lag_seconds",
                "Age of the newest sample of a batch when it arrived; the node's clock has a part in it.",
                exponential_buckets(0.01, 4.0, 10)?, // to 44 min
            )?,
            unreadable: new.counter(
                "fog_ingest_unreadable_messages_total",
                "Messages of agents that could not be read and were passed over.",
            )?,
            shed: new.counters("fog_shed_requests_total", "Work that was turned away with 429.", &["work"])?,
            http: new.histograms(
                "fog_http_request_duration_seconds",
                "Requests that were answered, by their route's pattern.",
                quick,
                &["method", "route", "status"],
            )?,
            registry: new.0,
        };
        for outcome in [Phase::Done, Phase::RolledBack, Phase::Failed] {
            for asked_by in ["policy", "user"] {
                metrics.migrations.with_label_values(&[&outcome.to_string(), "stop-and-copy", asked_by]);
            }
        }
        metrics.failures.with_label_values(&["none"]);
        for action in ["migrate", "resize"] {
            metrics.planned.with_label_values(&[action]);
        }
        for work in ["read", "batch", "agent"] {
            metrics.shed.with_label_values(&[work]);
        }
        Ok(metrics)
    }

    /// A migration is over; to be called once for each.
    pub fn ended(&self, migration: &Migration) {
        let outcome = migration.phase.to_string();
        let strategy = migration.strategy.to_string();
        self.migrations.with_label_values(&[&outcome, &strategy, &migration.asked_by]).inc();
        if let Some(cause) = &migration.cause {
            let step = cause.step.map_or_else(|| "none".to_owned(), |step| step.to_string());
            self.failures.with_label_values(&[&step]).inc();
        }
        if let Some(finished_at) = migration.finished_at {
            let took = finished_at.duration_since(migration.created_at).as_secs_f64();
            self.duration.with_label_values(&[&outcome]).observe(took.max(0.0));
        }
        if let Some(downtime_ms) = migration.downtime_ms {
            self.downtime.with_label_values(&[&strategy]).observe(downtime_ms / 1000.0);
        }
        self.sent_bytes.inc_by(migration.sent_bytes.unwrap_or(0));
        self.checkpoint_bytes.inc_by(migration.checkpoint_bytes.unwrap_or(0));
    }

    /// A request was answered. `route` is the pattern, never the path.
    pub fn answered(&self, method: &str, route: &str, status: u16, took: Duration) {
        // Anybody may invent a method; the API has these.
        let method = match method {
            "GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "PATCH" => method,
            _ => "other",
        };
        let class = ["1xx", "2xx", "3xx", "4xx", "5xx"].get(usize::from(status / 100).saturating_sub(1));
        let class = if status == 429 { "429" } else { class.copied().unwrap_or("other") };
        self.http.with_label_values(&[method, route, class]).observe(took.as_secs_f64());
    }

    /// Prometheus' text format, version 0.0.4.
    pub async fn text(&self, app: &Service) -> Result<String, MetricsError> {
        let store = app.store.size().await?;
        self.gauges.lock().unwrap_or_else(std::sync::PoisonError::into_inner).read(app, store);
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }
}

/// Why there are no metrics.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The store's size is not known.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// A defect: the metrics do not fit their format.
    #[error("the metrics cannot be written: {0}")]
    Format(#[from] prometheus::Error),
}
