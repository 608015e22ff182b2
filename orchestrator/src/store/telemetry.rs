//! Nodes and their samples.

use fog_api::agent::{Hello, NodeFacts, Sample};
use jiff::Timestamp;
use sqlx::Row;
use uuid::Uuid;

use super::{Store, StoreError, json, parse, time};

/// What a person ordered of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeOrder {
    /// Nothing new comes here.
    pub cordoned: bool,
    /// And what is there leaves.
    pub draining: bool,
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
    pub async fn order_node(&self, node: &str, order: NodeOrder) -> Result<(), StoreError> {
        sqlx::query("UPDATE nodes SET cordoned = ?, draining = ? WHERE name = ?")
            .bind(order.cordoned)
            .bind(order.draining)
            .bind(node)
            .execute(&self.ledger)
            .await?;
        Ok(())
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
