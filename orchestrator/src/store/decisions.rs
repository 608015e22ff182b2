//! Decisions, with every candidate and factor; the limits that some of them changed.

use fog_api::decision::{Decision, Limits, Status};
use fog_api::event::Event;
use jiff::Timestamp;
use sqlx::Row;
use uuid::Uuid;

use super::{Store, StoreError, events, json, parse};

/// The limits of a workload that the planner has changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GivenLimits {
    /// That it was created with.
    pub created: Limits,
    /// That it was given last.
    pub given: Limits,
}

impl Store {
    /// One decision.
    pub async fn decision(&self, id: Uuid) -> Result<Option<Decision>, StoreError> {
        let row = sqlx::query("SELECT body FROM decisions WHERE id = ?")
            .bind(id.to_string())
            .fetch_optional(&self.readers)
            .await?;
        row.map(|row| parse("decisions.body", row.get(0))).transpose()
    }

    /// The decisions of this status, newest first, at most 1000.
    pub async fn decisions_that_are(&self, status: Status) -> Result<Vec<Decision>, StoreError> {
        let rows = sqlx::query(
            "SELECT body FROM decisions WHERE json_extract(body, '$.status') = ? ORDER BY id DESC LIMIT 1000",
        )
        .bind(status.to_string())
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|row| parse("decisions.body", row.get(0))).collect()
    }

    /// Keeps a decision, or what has become of it, synced.
    pub async fn save_decision(&self, decision: &Decision) -> Result<(), StoreError> {
        let mut transaction = self.ledger.begin_with("BEGIN IMMEDIATE").await?;
        let now = decision.answered_at.unwrap_or(decision.at);
        let seq = write_decision(&mut transaction, decision, now).await?;
        transaction.commit().await?;
        self.tell(seq);
        Ok(())
    }

    /// The limits of every workload that the planner has changed.
    pub async fn limits(&self) -> Result<Vec<(String, GivenLimits)>, StoreError> {
        let rows = sqlx::query("SELECT workload, created, given FROM limits").fetch_all(&self.readers).await?;
        rows.iter()
            .map(|row| {
                let (created, given) = (parse("limits.created", row.get(1))?, parse("limits.given", row.get(2))?);
                Ok((row.get(0), GivenLimits { created, given }))
            })
            .collect()
    }

    /// Keeps a workload's limits before it is given them, synced: nobody else remembers those it was created with.
    pub async fn save_limits(&self, workload: &str, limits: &GivenLimits) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO limits (workload, created, given) VALUES (?1, ?2, ?3)
             ON CONFLICT (workload) DO UPDATE SET created = ?2, given = ?3",
        )
        .bind(workload)
        .bind(json(&limits.created))
        .bind(json(&limits.given))
        .execute(&self.ledger)
        .await?;
        Ok(())
    }

    /// The container is gone, or has its own limits again.
    pub async fn forget_limits(&self, workload: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM limits WHERE workload = ?").bind(workload).execute(&self.ledger).await?;
        Ok(())
    }
}

/// A decision may have been kept before, as a proposal.
pub(super) async fn write_decision(
    connection: &mut sqlx::SqliteConnection,
    decision: &Decision,
    now: Timestamp,
) -> Result<u64, StoreError> {
    sqlx::query("INSERT INTO decisions (id, at_ms, body) VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET body = ?3")
        .bind(decision.id.to_string())
        .bind(decision.at.as_millisecond())
        .bind(json(decision))
        .execute(&mut *connection)
        .await?;
    events::note(connection, &Event::Decision { decision: decision.clone() }, now).await
}
