//! Who owns which workload.

use jiff::Timestamp;
use sqlx::Row;

use super::{Store, StoreError, time};

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
    pub async fn claim(&self, workload: &str, node: &str, epoch: u64) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO ownership (workload, owner, epoch) VALUES (?1, ?2, ?3)
             ON CONFLICT (workload) DO UPDATE SET owner = ?2, epoch = ?3, moved_at_ms = NULL, moved_from = NULL
             WHERE ownership.epoch < ?3",
        )
        .bind(workload)
        .bind(node)
        .bind(epoch.cast_signed())
        .execute(&self.ledger)
        .await?;
        Ok(())
    }

    /// The owner no longer has the container.
    pub async fn release(&self, workload: &str, node: &str, epoch: u64) -> Result<(), StoreError> {
        sqlx::query("UPDATE ownership SET owner = NULL WHERE workload = ? AND owner = ? AND epoch = ?")
            .bind(workload)
            .bind(node)
            .bind(epoch.cast_signed())
            .execute(&self.ledger)
            .await?;
        Ok(())
    }
}
