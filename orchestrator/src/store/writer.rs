//! Samples on their way into the database: gathered for a moment and written in one transaction.
//!
//! A transaction for every heartbeat costs more than everything else that is done with it, so heartbeats that arrive
//! within [`LINGER`] share one. The caller waits for it: what is acknowledged is stored. Two classes wait in two queues:
//! the agents' own heartbeats go first, batches from elsewhere take what is left.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use fog_api::agent::Sample;
use jiff::Timestamp;
use sqlx::{Row as _, SqliteConnection, SqlitePool};
use tokio::sync::{mpsc, oneshot, watch};

use super::ownership::Ownership;
use super::samples::{HOUR_MS, MINUTE_MS};
use super::{Store, StoreError};

/// So long the first heartbeat of a transaction waits for others.
const LINGER: Duration = Duration::from_millis(4);
/// Heartbeats in one transaction.
const MOST: usize = 256;
/// Samples in one statement; each size is one prepared statement.
const CHUNKS: [usize; 3] = [64, 8, 1];
const COLUMNS: usize = 12;

/// Which queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// An agent's own heartbeat.
    Heartbeat,
    /// Samples that somebody brings for others.
    Batch,
}

/// What an agent's report brings.
struct Job {
    node: String,
    now: Timestamp,
    rows: Vec<Row>,
    changes: Vec<Ownership>,
    reply: oneshot::Sender<Result<(), Arc<StoreError>>>,
}

/// A sample as it is stored, without its node.
pub struct Row([Option<i64>; COLUMNS - 1]);

impl Row {
    fn at(&self) -> i64 {
        self.0[0].unwrap_or_default()
    }
}

fn row(sample: &Sample, now: Timestamp) -> Row {
    let scaled = |value: f64, scale: f64| Some((value * scale).round() as i64);
    let fraction = |value: f64| scaled(value, 10_000.0);
    let pressure = sample.pressure;
    // A clock that is ahead must not make a sample outlive its retention.
    Row([
        Some(sample.at.min(now).as_millisecond()),
        fraction(sample.cpu),
        fraction(sample.memory),
        fraction(sample.disk),
        scaled(sample.run_queue, 100.0),
        pressure.and_then(|pressure| fraction(pressure.cpu)),
        pressure.and_then(|pressure| fraction(pressure.memory)),
        pressure.and_then(|pressure| fraction(pressure.io)),
        scaled(sample.network_received_bytes_per_s, 1.0),
        scaled(sample.network_sent_bytes_per_s, 1.0),
        sample.temperature_c.and_then(|celsius| scaled(celsius, 10.0)),
    ])
}

/// The way into the writer; the writer ends with the last of them.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    heartbeats: mpsc::UnboundedSender<Job>,
    batches: mpsc::UnboundedSender<Job>,
    waiting: Arc<Waiting>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Job({}, {} samples)", self.node, self.rows.len())
    }
}

#[derive(Debug, Default)]
struct Waiting {
    heartbeats: AtomicUsize,
    batches: AtomicUsize,
    /// Samples before this are older than what is kept.
    oldest_ms: AtomicI64,
}

impl Writer {
    /// Starts writing. The task ends once every sender is gone.
    pub(super) fn start(pool: SqlitePool, told: watch::Sender<u64>) -> Self {
        let (heartbeats, mut first) = mpsc::unbounded_channel();
        let (batches, mut second) = mpsc::unbounded_channel();
        let waiting = Arc::new(Waiting { oldest_ms: AtomicI64::new(i64::MIN), ..Waiting::default() });
        let counts = Arc::clone(&waiting);
        tokio::spawn(async move {
            let mut numbers = BTreeMap::new();
            let mut jobs = Vec::with_capacity(MOST);
            loop {
                let job = tokio::select! {
                    biased;
                    job = first.recv() => job,
                    job = second.recv() => job,
                };
                let Some(job) = job else { return };
                jobs.push(job);
                tokio::time::sleep(LINGER).await;
                while jobs.len() < MOST {
                    match first.try_recv().or_else(|_| second.try_recv()) {
                        Ok(job) => jobs.push(job),
                        Err(_) => break,
                    }
                }
                let result = write(&pool, &mut numbers, &jobs).await.map_err(Arc::new);
                if let Ok(Some(seq)) = result {
                    super::events::tell(&told, seq);
                }
                let result = result.map(|_| ());
                for job in jobs.drain(..) {
                    let _ = job.reply.send(result.clone());
                }
                counts.heartbeats.store(first.len(), Ordering::Relaxed);
                counts.batches.store(second.len(), Ordering::Relaxed);
            }
        });
        Self { heartbeats, batches, waiting }
    }
}

async fn write(
    pool: &SqlitePool,
    numbers: &mut BTreeMap<String, i64>,
    jobs: &[Job],
) -> Result<Option<u64>, StoreError> {
    let mut last = None;
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    let mut fresh = Vec::new();
    let mut rows = Vec::new();
    let mut beats: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for job in jobs {
        let number = match numbers.get(&job.node) {
            Some(number) => *number,
            None => {
                let number = number(&mut transaction, &job.node).await?;
                fresh.push((job.node.clone(), number));
                number
            }
        };
        let now = job.now.as_millisecond();
        let first = job.rows.iter().map(Row::at).min().unwrap_or(now);
        let beat = beats.entry(number).or_insert((now, first));
        *beat = (beat.0.max(now), beat.1.min(first));
        rows.extend(job.rows.iter().map(|row| (number, row)));
        for change in &job.changes {
            last = super::ownership::write(&mut transaction, change, &job.node, job.now).await?.or(last);
        }
    }
    insert_samples(&mut transaction, &rows).await?;
    let beats: Vec<(i64, (i64, i64))> = beats.into_iter().collect();
    insert_beats(&mut transaction, &beats).await?;
    transaction.commit().await?;
    // Only now: a number that was rolled back is nobody's.
    numbers.extend(fresh);
    Ok(last)
}

async fn number(connection: &mut SqliteConnection, node: &str) -> Result<i64, StoreError> {
    sqlx::query("INSERT INTO node_numbers (node) VALUES (?) ON CONFLICT DO NOTHING")
        .bind(node)
        .execute(&mut *connection)
        .await?;
    let row = sqlx::query("SELECT number FROM node_numbers WHERE node = ?").bind(node).fetch_one(connection).await?;
    Ok(row.get(0))
}

async fn insert_samples(connection: &mut SqliteConnection, mut rows: &[(i64, &Row)]) -> Result<(), StoreError> {
    for size in CHUNKS {
        let values = vec!["(?,?,?,?,?,?,?,?,?,?,?,?)"; size].join(",");
        let sql = format!("INSERT OR IGNORE INTO samples VALUES {values}");
        while rows.len() >= size {
            let (chunk, rest) = rows.split_at(size);
            rows = rest;
            let mut query = sqlx::query(sqlx::AssertSqlSafe(sql.clone()));
            for (number, row) in chunk {
                query = query.bind(number);
                for value in row.0 {
                    query = query.bind(value);
                }
            }
            query.execute(&mut *connection).await?;
        }
    }
    Ok(())
}

async fn insert_beats(connection: &mut SqliteConnection, mut beats: &[(i64, (i64, i64))]) -> Result<(), StoreError> {
    for size in CHUNKS {
        let values = vec!["(?,?,?,?)"; size].join(",");
        let sql = format!(
            "INSERT INTO heartbeats (node, at_ms, minutes_until_ms, hours_until_ms) VALUES {values}
             ON CONFLICT (node) DO UPDATE SET at_ms = excluded.at_ms,
                minutes_until_ms = min(minutes_until_ms, excluded.minutes_until_ms),
                hours_until_ms = min(hours_until_ms, excluded.hours_until_ms)"
        );
        while beats.len() >= size {
            let (chunk, rest) = beats.split_at(size);
            beats = rest;
            let mut query = sqlx::query(sqlx::AssertSqlSafe(sql.clone()));
            for (number, (now, first)) in chunk {
                query = query.bind(number).bind(now).bind(first - first.rem_euclid(MINUTE_MS));
                query = query.bind(first - first.rem_euclid(HOUR_MS));
            }
            query.execute(&mut *connection).await?;
        }
    }
    Ok(())
}

impl Store {
    /// Samples as they are stored. Those that are older than what is kept are left out.
    pub fn rows(&self, samples: &[Sample], now: Timestamp) -> Vec<Row> {
        let oldest = self.writer.waiting.oldest_ms.load(Ordering::Relaxed);
        samples.iter().map(|sample| row(sample, now)).filter(|row| row.at() >= oldest).collect()
    }

    /// Keeps a node's samples, that it was heard at `now`, and the changes of ownership that its report brought about;
    /// samples that are known already are passed over.
    pub async fn save_samples(
        &self,
        class: Class,
        node: &str,
        rows: Vec<Row>,
        changes: Vec<Ownership>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (reply, stored) = oneshot::channel();
        let job = Job { node: node.to_owned(), now, rows, changes, reply };
        let (queue, waiting) = match class {
            Class::Heartbeat => (&self.writer.heartbeats, &self.writer.waiting.heartbeats),
            Class::Batch => (&self.writer.batches, &self.writer.waiting.batches),
        };
        waiting.fetch_add(1, Ordering::Relaxed);
        queue.send(job).map_err(|_| StoreError::Closed)?;
        stored.await.map_err(|_| StoreError::Closed)?.map_err(StoreError::Together)
    }

    /// How many reports wait to be written: of agents, and of others.
    pub fn waiting(&self) -> (usize, usize) {
        let waiting = &self.writer.waiting;
        (waiting.heartbeats.load(Ordering::Relaxed), waiting.batches.load(Ordering::Relaxed))
    }

    /// Samples before this are no longer taken: they would be forgotten at once, and their minute is written already.
    pub(super) fn take_none_before(&self, oldest: Timestamp) {
        self.writer.waiting.oldest_ms.store(oldest.as_millisecond(), Ordering::Relaxed);
    }
}
