//! Nodes, and what a person ordered of them.

use std::collections::BTreeMap;

use fog_api::agent::{Hello, NodeFacts};
use fog_api::event::Event;
use jiff::Timestamp;
use sqlx::Row;

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

impl StoredNode {
    /// Whether both say the same of their node, whenever it was last heard and whatever was ordered.
    pub fn same_as(&self, other: &Self) -> bool {
        self.agent_version == other.agent_version
            && self.transfer_address == other.transfer_address
            && self.facts == other.facts
    }
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
            "SELECT name, agent_version, transfer_address, facts, heartbeats.at_ms, cordoned, draining
             FROM nodes LEFT JOIN node_numbers ON node_numbers.node = nodes.name
                        LEFT JOIN heartbeats ON heartbeats.node = node_numbers.number
             ORDER BY name",
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
}
