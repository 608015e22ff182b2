//! Samples at three levels: as they came, by the minute, by the hour; each kept for its own time.
//!
//! [`Store::roll_up`] brings them from level to level, a slice of the nodes at a time, so that no transaction is long.
//! A sample that arrives late moves its node's mark back, and its minute and hour are made again.

use std::collections::BTreeMap;

use fog_api::agent::Pressure;
use fog_api::node::SamplePoint;
use jiff::{SignedDuration, Timestamp};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::{Store, StoreError, time};
use crate::delays;

pub(super) const MINUTE_MS: i64 = 60_000;
pub(super) const HOUR_MS: i64 = 60 * MINUTE_MS;

/// How long each level is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// As they came.
    pub samples: SignedDuration,
    /// By the minute.
    pub minutes: SignedDuration,
    /// By the hour.
    pub hours: SignedDuration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            samples: SignedDuration::from_hours(6),
            minutes: SignedDuration::from_hours(3 * 24),
            hours: SignedDuration::from_hours(90 * 24),
        }
    }
}

impl Store {
    /// Brings the samples of the nodes numbered `from` to `until` (excluded) up to `now`, and forgets what is too old.
    pub async fn roll_up(&self, from: i64, until: i64, now: Timestamp) -> Result<(), StoreError> {
        let (now_ms, keep) = (now.as_millisecond(), self.keep);
        self.take_none_before(now - keep.samples);
        let minute = now_ms - now_ms.rem_euclid(MINUTE_MS);
        let hour = now_ms - now_ms.rem_euclid(HOUR_MS);
        let mut transaction = self.telemetry.begin_with("BEGIN IMMEDIATE").await?;
        let connection = &mut *transaction;
        let mean = "CAST(round(avg(s.disk)) AS INTEGER), CAST(round(avg(s.run_queue)) AS INTEGER),
            CAST(round(avg(s.pressure_cpu)) AS INTEGER), CAST(round(avg(s.pressure_memory)) AS INTEGER),
            CAST(round(avg(s.pressure_io)) AS INTEGER), CAST(round(avg(s.received_bytes_per_s)) AS INTEGER),
            CAST(round(avg(s.sent_bytes_per_s)) AS INTEGER), CAST(round(avg(s.temperature)) AS INTEGER)";
        let minutes = format!(
            "INSERT OR REPLACE INTO samples_minute
             SELECT s.node, s.at_ms - s.at_ms % {MINUTE_MS} AS minute, count(*),
                CAST(round(avg(s.cpu)) AS INTEGER), max(s.cpu), CAST(round(avg(s.memory)) AS INTEGER), max(s.memory),
                {mean}, max(s.temperature)
             FROM heartbeats h CROSS JOIN samples s
                ON s.node = h.node AND s.at_ms >= h.minutes_until_ms AND s.at_ms < ?3
             WHERE h.node >= ?1 AND h.node < ?2 GROUP BY s.node, minute"
        );
        run(connection, minutes, [from, until, minute]).await?;
        let hours = format!(
            "INSERT OR REPLACE INTO samples_hour
             SELECT s.node, s.at_ms - s.at_ms % {HOUR_MS} AS hour, sum(s.samples),
                CAST(round(avg(s.cpu)) AS INTEGER), max(s.cpu_max), CAST(round(avg(s.memory)) AS INTEGER),
                max(s.memory_max), {mean}, max(s.temperature_max)
             FROM heartbeats h CROSS JOIN samples_minute s
                ON s.node = h.node AND s.at_ms >= h.hours_until_ms AND s.at_ms < ?3
             WHERE h.node >= ?1 AND h.node < ?2 GROUP BY s.node, hour"
        );
        let hours_due = "SELECT 1 FROM heartbeats WHERE node >= ? AND node < ? AND hours_until_ms < ? LIMIT 1";
        let due = sqlx::query(hours_due).bind(from).bind(until).bind(hour).fetch_optional(&mut *connection).await?;
        if due.is_some() {
            run(connection, hours, [from, until, hour]).await?;
        }
        sqlx::query(
            "UPDATE heartbeats SET minutes_until_ms = max(minutes_until_ms, ?3),
                hours_until_ms = max(hours_until_ms, ?4) WHERE node >= ?1 AND node < ?2",
        )
        .bind(from)
        .bind(until)
        .bind(minute)
        .bind(hour)
        .execute(&mut *connection)
        .await?;
        for (table, kept) in [("samples", keep.samples), ("samples_minute", keep.minutes), ("samples_hour", keep.hours)]
        {
            let forget = format!(
                "DELETE FROM {table} WHERE (node, at_ms) IN (SELECT s.node, s.at_ms FROM heartbeats h
                 CROSS JOIN {table} s ON s.node = h.node AND s.at_ms < ?3 WHERE h.node >= ?1 AND h.node < ?2)"
            );
            run(connection, forget, [from, until, (now - kept).as_millisecond()]).await?;
        }
        for (level, kept) in [(delays::Level::Fine, keep.minutes), (delays::Level::Hour, keep.hours)] {
            let level = level.number();
            let forget = format!(
                "DELETE FROM delays WHERE (level, node, at_ms) IN (SELECT d.level, d.node, d.at_ms FROM heartbeats h
                 CROSS JOIN delays d ON d.level = {level} AND d.node = h.node AND d.at_ms < ?3
                 WHERE h.node >= ?1 AND h.node < ?2)"
            );
            run(connection, forget, [from, until, (now - kept).as_millisecond()]).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// The highest number that a node has; numbers count from 1.
    pub async fn highest_number(&self) -> Result<i64, StoreError> {
        let row = sqlx::query("SELECT coalesce(max(number), 0) FROM node_numbers").fetch_one(&self.readers).await?;
        Ok(row.get(0))
    }

    /// How many samples of a node are kept as they came.
    pub async fn sample_count(&self, node: &str) -> Result<u64, StoreError> {
        let sql =
            "SELECT count(*) FROM samples WHERE node = (SELECT number FROM node_numbers WHERE node_numbers.node = ?)";
        let row = sqlx::query(sql).bind(node).fetch_one(&self.readers).await?;
        Ok(row.get::<i64, _>(0).cast_unsigned())
    }

    /// A node's samples from `from` to before `to`, in steps; steps without a sample are left out. Each part of the range
    /// comes from the coarsest level that is fine enough for the step, or from what is still kept.
    pub async fn samples(
        &self,
        node: &str,
        from: Timestamp,
        to: Timestamp,
        step_s: i64,
    ) -> Result<Vec<SamplePoint>, StoreError> {
        let marks = sqlx::query(
            "SELECT number, minutes_until_ms, hours_until_ms FROM node_numbers
             JOIN heartbeats ON heartbeats.node = number WHERE node_numbers.node = ?",
        )
        .bind(node)
        .fetch_optional(&self.readers)
        .await?;
        let Some(marks) = marks else { return Ok(Vec::new()) };
        let now = crate::clock::now();
        let kept = Kept {
            full_from: (now - self.keep.samples).as_millisecond(),
            minutes_from: (now - self.keep.minutes).as_millisecond(),
            minutes_until: marks.get(1),
            hours_until: marks.get(2),
        };
        let (from_ms, to_ms, step_ms) = (from.as_millisecond(), to.as_millisecond(), step_s * 1000);
        let mut steps: BTreeMap<i64, Mean> = BTreeMap::new();
        for (level, part) in kept.parts(step_ms, from_ms, to_ms) {
            for row in self.level_rows(marks.get(0), level, part).await? {
                let begin = from_ms + (row.get::<i64, _>(0) - from_ms).div_euclid(step_ms) * step_ms;
                steps.entry(begin).or_default().add(&row);
            }
        }
        Ok(steps.into_iter().map(|(begin, mean)| mean.point(time(begin))).collect())
    }

    async fn level_rows(&self, number: i64, level: Level, part: (i64, i64)) -> Result<Vec<SqliteRow>, StoreError> {
        let (table, extremes) = match level {
            Level::Full => ("samples", "1, cpu, memory, temperature"),
            Level::Minute => ("samples_minute", "samples, cpu_max, memory_max, temperature_max"),
            Level::Hour => ("samples_hour", "samples, cpu_max, memory_max, temperature_max"),
        };
        let sql = format!(
            "SELECT at_ms, {extremes}, cpu, memory, disk, run_queue, received_bytes_per_s, sent_bytes_per_s,
                pressure_cpu, pressure_memory, pressure_io
             FROM {table} WHERE node = ? AND at_ms >= ? AND at_ms < ?"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(number).bind(part.0).bind(part.1);
        Ok(query.fetch_all(&self.readers).await?)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Full,
    Minute,
    Hour,
}

/// What there is of a node at which level, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Kept {
    full_from: i64,
    minutes_from: i64,
    minutes_until: i64,
    hours_until: i64,
}

impl Kept {
    /// The range in parts that neither overlap nor leave out what is kept.
    fn parts(&self, step_ms: i64, from: i64, to: i64) -> Vec<(Level, (i64, i64))> {
        let mut parts = Vec::new();
        if step_ms >= HOUR_MS {
            let first = up(from, HOUR_MS).min(to);
            let last = self.hours_until.clamp(first, to);
            self.by_minutes(from, first, &mut parts);
            parts.push((Level::Hour, (first, last)));
            self.by_minutes(last, to, &mut parts);
        } else if step_ms >= MINUTE_MS {
            self.by_minutes(from, to, &mut parts);
        } else {
            let full = self.full_from.clamp(from, to);
            self.by_minutes(from, full, &mut parts);
            parts.push((Level::Full, (full, to)));
        }
        parts.retain(|(_, (from, to))| from < to);
        parts
    }

    fn by_minutes(&self, from: i64, to: i64, parts: &mut Vec<(Level, (i64, i64))>) {
        let first = up(from, MINUTE_MS).min(to);
        let last = self.minutes_until.clamp(first, to);
        // Of a minute that is cut at the beginning, the samples are there only while they are kept.
        parts.push((Level::Full, (from.max(self.full_from), first)));
        let kept = up(self.minutes_from, HOUR_MS).clamp(first, last);
        parts.push((Level::Hour, (first, kept)));
        parts.push((Level::Minute, (kept, last)));
        parts.push((Level::Full, (last, to)));
    }
}

fn up(ms: i64, unit: i64) -> i64 {
    ms + (-ms).rem_euclid(unit)
}

/// The columns that are averaged, with their scale.
const SCALES: [f64; 6] = [10_000.0, 10_000.0, 10_000.0, 100.0, 1.0, 1.0];

/// Rows that fall into one step, weighted by how many samples each stands for.
#[derive(Debug, Default)]
struct Mean {
    samples: u64,
    sums: [i64; SCALES.len()],
    pressure: [i64; 3],
    with_pressure: u64,
    cpu_max: f64,
    memory_max: f64,
    temperature_max: Option<f64>,
}

impl Mean {
    fn add(&mut self, row: &SqliteRow) {
        let samples = row.get::<i64, _>(1).cast_unsigned();
        let whole = |column: usize| row.get::<Option<i64>, _>(column);
        let value = |column: usize| whole(column).map(|value| value as f64);
        self.samples += samples;
        // Sums of whole numbers: the same at every level.
        for (index, sum) in self.sums.iter_mut().enumerate() {
            *sum += samples.cast_signed() * whole(5 + index).unwrap_or_default();
        }
        if let (Some(cpu), Some(memory), Some(io)) = (whole(11), whole(12), whole(13)) {
            self.with_pressure += samples;
            for (sum, pressure) in self.pressure.iter_mut().zip([cpu, memory, io]) {
                *sum += samples.cast_signed() * pressure;
            }
        }
        self.cpu_max = self.cpu_max.max(value(2).unwrap_or_default() / 10_000.0);
        self.memory_max = self.memory_max.max(value(3).unwrap_or_default() / 10_000.0);
        let hottest = value(4).map(|tenths| tenths / 10.0);
        self.temperature_max = [self.temperature_max, hottest].into_iter().flatten().reduce(f64::max);
    }

    fn point(self, at: Timestamp) -> SamplePoint {
        let mut means = SCALES;
        for (mean, sum) in means.iter_mut().zip(self.sums) {
            *mean = sum as f64 / self.samples.max(1) as f64 / *mean;
        }
        let [cpu, memory, disk, run_queue, received, sent] = means;
        let pressure = (self.with_pressure > 0).then(|| {
            let [cpu, memory, io] = self.pressure.map(|sum| sum as f64 / self.with_pressure as f64 / 10_000.0);
            Pressure { cpu, memory, io }
        });
        SamplePoint {
            at,
            samples: self.samples,
            cpu,
            cpu_max: self.cpu_max,
            memory,
            memory_max: self.memory_max,
            run_queue,
            pressure,
            disk,
            received_bytes_per_s: received,
            sent_bytes_per_s: sent,
            temperature_c: self.temperature_max,
        }
    }
}

async fn run(connection: &mut SqliteConnection, sql: String, values: [i64; 3]) -> Result<(), StoreError> {
    let [first, second, third] = values;
    sqlx::query(sqlx::AssertSqlSafe(sql)).bind(first).bind(second).bind(third).execute(connection).await?;
    Ok(())
}
