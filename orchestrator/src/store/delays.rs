//! The delays of the past.

use std::collections::BTreeMap;

use fog_api::node::{DelayPoint, PastDelay};
use jiff::Timestamp;
use sqlx::Row;

use super::{Store, StoreError, json, parse, time};
use crate::delays::{Level, Step};

/// Steps in one transaction.
const MOST: usize = 500;

impl Store {
    /// Writes steps that are over.
    pub async fn save_delays(&self, steps: &[Step]) -> Result<(), StoreError> {
        for some in steps.chunks(MOST) {
            let mut transaction = self.telemetry.begin_with("BEGIN IMMEDIATE").await?;
            for step in some {
                sqlx::query(
                    "INSERT OR REPLACE INTO delays (level, node, at_ms, links)
                     SELECT ?1, number, ?2, ?3 FROM node_numbers WHERE node = ?4",
                )
                .bind(step.level.number())
                .bind(step.at_ms)
                .bind(json(&step.links.iter().map(|(to, delay)| (&**to, delay)).collect::<BTreeMap<_, _>>()))
                .bind(&*step.node)
                .execute(&mut *transaction)
                .await?;
            }
            transaction.commit().await?;
        }
        Ok(())
    }

    /// A node's delays from `from` to before `to`, oldest first: by the minute as far as that is kept, else by the hour.
    pub async fn delays(&self, node: &str, from: Timestamp, to: Timestamp) -> Result<Vec<DelayPoint>, StoreError> {
        let fine = from >= crate::clock::now() - self.keep.minutes;
        let level = if fine { Level::Fine } else { Level::Hour };
        let rows = sqlx::query(
            "SELECT at_ms, links FROM delays WHERE level = ?1 AND at_ms >= ?3 AND at_ms < ?4
                AND node = (SELECT number FROM node_numbers WHERE node_numbers.node = ?2) ORDER BY at_ms",
        )
        .bind(level.number())
        .bind(node)
        .bind(from.as_millisecond())
        .bind(to.as_millisecond())
        .fetch_all(&self.readers)
        .await?;
        let mut points = Vec::with_capacity(rows.len());
        for row in rows {
            let links: BTreeMap<String, (f64, f64)> = parse("delays.links", row.get(1))?;
            let past = |(to, (rtt_ms, rtt_max_ms))| PastDelay { to, rtt_ms, rtt_max_ms };
            points.push(DelayPoint { at: time(row.get(0)), links: links.into_iter().map(past).collect() });
        }
        Ok(points)
    }
}
