//! Who owns which workload.

use fog_api::event::Event;
use jiff::Timestamp;
use sqlx::{Row, Sqlite, Transaction};

use super::{Store, StoreError, events, time};

/// A row of `ownership`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ownership {
    /// The workload's name.
    pub workload: String,
    /// Its node; `None`: the container is gone, the row keeps its epoch.
    pub owner: Option<String>,
    /// Rises with every change of owner.
    pub epoch: u64,
    /// When the last migration committed.
    pub moved_at: Option<Timestamp>,
    /// Where it came from then.
    pub moved_from: Option<String>,
}

impl Store {
    /// Every row.
    pub async fn ownerships(&self) -> Result<Vec<Ownership>, StoreError> {
        let rows =
            sqlx::query("SELECT workload, owner, epoch, moved_at_ms, moved_from FROM ownership ORDER BY workload")
                .fetch_all(&self.readers)
                .await?;
        Ok(rows
            .into_iter()
            .map(|row| Ownership {
                workload: row.get(0),
                owner: row.get(1),
                epoch: row.get::<i64, _>(2).cast_unsigned(),
                moved_at: row.get::<Option<i64>, _>(3).map(time),
                moved_from: row.get(4),
            })
            .collect())
    }

    /// A node shows a container that nobody owns: it is the owner from now on.
    pub async fn claim(&self, workload: &str, node: &str, epoch: u64, now: Timestamp) -> Result<(), StoreError> {
        let mut transaction = self.ledger.begin_with("BEGIN IMMEDIATE").await?;
        let done = sqlx::query(
            "INSERT INTO ownership (workload, owner, epoch) VALUES (?1, ?2, ?3)
             ON CONFLICT (workload) DO UPDATE SET owner = ?2, epoch = ?3, moved_at_ms = NULL, moved_from = NULL
             WHERE ownership.epoch < ?3",
        )
        .bind(workload)
        .bind(node)
        .bind(epoch.cast_signed())
        .execute(&mut *transaction)
        .await?;
        let event = Event::WorkloadFound { name: workload.to_owned(), node: node.to_owned(), epoch };
        self.changed(transaction, done.rows_affected(), &event, now).await
    }

    /// The owner no longer has the container.
    pub async fn release(&self, workload: &str, node: &str, epoch: u64, now: Timestamp) -> Result<(), StoreError> {
        let mut transaction = self.ledger.begin_with("BEGIN IMMEDIATE").await?;
        let done = sqlx::query("UPDATE ownership SET owner = NULL WHERE workload = ? AND owner = ? AND epoch = ?")
            .bind(workload)
            .bind(node)
            .bind(epoch.cast_signed())
            .execute(&mut *transaction)
            .await?;
        self.changed(transaction, done.rows_affected(), &Event::WorkloadGone { name: workload.to_owned() }, now).await
    }

    /// Tells of a change, if it was one, and commits it.
    async fn changed(
        &self,
        mut transaction: Transaction<'_, Sqlite>,
        rows: u64,
        event: &Event,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let seq = if rows > 0 { events::note(&mut transaction, event, now).await? } else { 0 };
        transaction.commit().await?;
        self.tell(seq);
        Ok(())
    }
}
