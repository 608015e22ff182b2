//! Nodes and their samples.

use std::collections::BTreeMap;

use fog_api::agent::{Hello, NodeFacts, Pressure, Sample};
use fog_api::event::Event;
use fog_api::node::SamplePoint;
use jiff::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::{Store, StoreError, events, json, parse, time};

/// What a person ordered of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeOrder {
    /// Nothing new comes here.
    pub cordoned: bool,
    /// And what is there leaves.
    pub draining: bool,
}

/// When something was ordered, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ordered {
    /// When.
    pub since: Timestamp,
    /// The token's name.
    pub by: String,
}

/// A node that has said hello at least once.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredNode {
    /// The node's name.
    pub name: String,
    /// Its agent's version.
    pub agent_version: String,
    /// `host:port` of its transfer listener.
    pub transfer_address: String,
    /// Fixed properties.
    pub facts: NodeFacts,
    /// When its last heartbeat arrived.
    pub heartbeat_at: Option<Timestamp>,
    /// What a person ordered.
    pub order: NodeOrder,
}

impl Store {
    /// Keeps what an agent said of its node.
    pub async fn save_node(&self, hello: &Hello, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO nodes (name, agent_version, transfer_address, facts, hello_at_ms) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (name) DO UPDATE SET agent_version = ?2, transfer_address = ?3, facts = ?4, hello_at_ms = ?5",
        )
        .bind(&hello.node)
        .bind(&hello.agent_version)
        .bind(&hello.transfer_address)
        .bind(json(&hello.facts))
        .bind(now.as_millisecond())
        .execute(&self.telemetry)
        .await?;
        Ok(())
    }

    /// Keeps what a person ordered of a node, synced.
    pub async fn order_node(&self, node: &str, order: NodeOrder, by: &str, now: Timestamp) -> Result<(), StoreError> {
        let mut transaction = self.ledger.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query("UPDATE nodes SET cordoned = ?, draining = ? WHERE name = ?")
            .bind(order.cordoned)
            .bind(order.draining)
            .bind(node)
            .execute(&mut *transaction)
            .await?;
        let drain = if order.draining {
            sqlx::query("INSERT INTO drains (node, since_ms, by) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
                .bind(node)
                .bind(now.as_millisecond())
                .bind(by)
        } else {
            sqlx::query("DELETE FROM drains WHERE node = ?").bind(node)
        };
        drain.execute(&mut *transaction).await?;
        let event = Event::NodeOrdered {
            name: node.to_owned(),
            cordoned: order.cordoned,
            draining: order.draining,
            by: by.to_owned(),
        };
        let seq = events::note(&mut transaction, &event, now).await?;
        transaction.commit().await?;
        self.tell(seq);
        Ok(())
    }

    /// When each drain was ordered, and by whom.
    pub async fn drains(&self) -> Result<BTreeMap<String, Ordered>, StoreError> {
        let rows = sqlx::query("SELECT node, since_ms, by FROM drains").fetch_all(&self.readers).await?;
        Ok(rows.iter().map(|row| (row.get(0), Ordered { since: time(row.get(1)), by: row.get(2) })).collect())
    }

    /// Every node.
    pub async fn nodes(&self) -> Result<Vec<StoredNode>, StoreError> {
        let rows = sqlx::query(
            "SELECT name, agent_version, transfer_address, facts, heartbeat_at_ms, cordoned, draining
             FROM nodes ORDER BY name",
        )
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(StoredNode {
                    name: row.get(0),
                    agent_version: row.get(1),
                    transfer_address: row.get(2),
                    facts: parse("nodes.facts", row.get(3))?,
                    heartbeat_at: row.get::<Option<i64>, _>(4).map(time),
                    order: NodeOrder { cordoned: row.get(5), draining: row.get(6) },
                })
            })
            .collect()
    }

    /// Keeps a batch of samples; those that are known already are passed over.
    pub async fn save_samples(
        &self,
        node: &str,
        boot: Uuid,
        samples: &[Sample],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut transaction = self.telemetry.begin_with("BEGIN IMMEDIATE").await?;
        for sample in samples {
            sqlx::query(
                "INSERT OR IGNORE INTO samples (node, boot, seq, at_ms, cpu, memory, run_queue, pressure_cpu,
                    pressure_memory, pressure_io, disk, received_bytes_per_s, sent_bytes_per_s, temperature_c)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )
            .bind(node)
            .bind(boot.to_string())
            .bind(sample.seq.cast_signed())
            .bind(sample.at.as_millisecond())
            .bind(sample.cpu)
            .bind(sample.memory)
            .bind(sample.run_queue)
            .bind(sample.pressure.map(|pressure| pressure.cpu))
            .bind(sample.pressure.map(|pressure| pressure.memory))
            .bind(sample.pressure.map(|pressure| pressure.io))
            .bind(sample.disk)
            .bind(sample.network_received_bytes_per_s)
            .bind(sample.network_sent_bytes_per_s)
            .bind(sample.temperature_c)
            .execute(&mut *transaction)
            .await?;
        }
        sqlx::query("UPDATE nodes SET heartbeat_at_ms = ? WHERE name = ?")
            .bind(now.as_millisecond())
            .bind(node)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// A node's samples from `from` to before `to`, in steps; steps without a sample are left out.
    pub async fn samples(
        &self,
        node: &str,
        from: Timestamp,
        to: Timestamp,
        step_s: i64,
    ) -> Result<Vec<SamplePoint>, StoreError> {
        let rows = sqlx::query(
            "SELECT ?2 + (at_ms - ?2) / ?4 * ?4 AS begin, count(*), avg(cpu), max(cpu), avg(memory), max(memory),
                    avg(run_queue), avg(pressure_cpu), avg(pressure_memory), avg(pressure_io), avg(disk),
                    avg(received_bytes_per_s), avg(sent_bytes_per_s), max(temperature_c)
             FROM samples WHERE node = ?1 AND at_ms >= ?2 AND at_ms < ?3 GROUP BY begin ORDER BY begin",
        )
        .bind(node)
        .bind(from.as_millisecond())
        .bind(to.as_millisecond())
        .bind(step_s * 1000)
        .fetch_all(&self.readers)
        .await?;
        let pressure = |row: &SqliteRow| {
            Some(Pressure {
                cpu: row.get::<Option<f64>, _>(7)?,
                memory: row.get::<Option<f64>, _>(8)?,
                io: row.get::<Option<f64>, _>(9)?,
            })
        };
        Ok(rows
            .iter()
            .map(|row| SamplePoint {
                at: time(row.get(0)),
                samples: row.get::<i64, _>(1).cast_unsigned(),
                cpu: row.get(2),
                cpu_max: row.get(3),
                memory: row.get(4),
                memory_max: row.get(5),
                run_queue: row.get(6),
                pressure: pressure(row),
                disk: row.get(10),
                received_bytes_per_s: row.get(11),
                sent_bytes_per_s: row.get(12),
                temperature_c: row.get(13),
            })
            .collect())
    }

    /// How many samples of a node are kept.
    pub async fn sample_count(&self, node: &str) -> Result<u64, StoreError> {
        let row =
            sqlx::query("SELECT count(*) FROM samples WHERE node = ?").bind(node).fetch_one(&self.readers).await?;
        Ok(row.get::<i64, _>(0).cast_unsigned())
    }

    /// Forgets samples taken before `before`.
    pub async fn forget_samples(&self, before: Timestamp) -> Result<u64, StoreError> {
        let done = sqlx::query("DELETE FROM samples WHERE at_ms < ?")
            .bind(before.as_millisecond())
            .execute(&self.telemetry)
            .await?;
        Ok(done.rows_affected())
    }
}
