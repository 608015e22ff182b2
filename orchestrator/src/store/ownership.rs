//! Who owns which workload.

use fog_api::event::Event;
use jiff::Timestamp;
use sqlx::{Row, SqliteConnection};

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
}

/// Keeps what a node's report changed: it shows a container that nobody owns, or it no longer has one that it owned.
/// Returns the number of the event that tells of it; `None`: it was so already.
pub(super) async fn write(
    connection: &mut SqliteConnection,
    change: &Ownership,
    node: &str,
    now: Timestamp,
) -> Result<Option<u64>, StoreError> {
    let query = if change.owner.is_some() {
        sqlx::query(
            "INSERT INTO ownership (workload, owner, epoch) VALUES (?1, ?2, ?3)
             ON CONFLICT (workload) DO UPDATE SET owner = ?2, epoch = ?3, moved_at_ms = NULL, moved_from = NULL
             WHERE ownership.epoch < ?3",
        )
    } else {
        sqlx::query("UPDATE ownership SET owner = NULL WHERE workload = ? AND owner = ? AND epoch = ?")
    };
    let query = query.bind(&change.workload).bind(node).bind(change.epoch.cast_signed());
    if query.execute(&mut *connection).await?.rows_affected() == 0 {
        return Ok(None);
    }
    let name = change.workload.clone();
    let event = match &change.owner {
        Some(_) => Event::WorkloadFound { name, node: node.to_owned(), epoch: change.epoch },
        None => Event::WorkloadGone { name },
    };
    events::note(connection, &event, now).await.map(Some)
}
