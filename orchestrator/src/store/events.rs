//! The history of events. An event is written in the transaction that makes it happen, so that none is ever missing and
//! none tells of what did not take place.

use fog_api::event::{Event, Occurrence};
use jiff::Timestamp;
use sqlx::{Row, SqliteConnection};
use tokio::sync::watch;

use super::{Store, StoreError, json, parse, time};

/// The numbers that are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Range {
    /// The oldest that is kept; one above `newest` when none is.
    pub oldest: u64,
    /// The newest that there ever was.
    pub newest: u64,
}

/// Writes an event down, as a part of the caller's transaction.
pub(super) async fn note(connection: &mut SqliteConnection, event: &Event, now: Timestamp) -> Result<u64, StoreError> {
    let done = sqlx::query("INSERT INTO events (at_ms, body) VALUES (?, ?)")
        .bind(now.as_millisecond())
        .bind(json(event))
        .execute(connection)
        .await?;
    Ok(done.last_insert_rowid().cast_unsigned())
}

/// Wakes whoever waits for events, after the commit.
pub(super) fn tell(told: &watch::Sender<u64>, seq: u64) {
    told.send_if_modified(|newest| {
        let newer = seq > *newest;
        *newest = seq.max(*newest);
        newer
    });
}

impl Store {
    /// Rises with every event that was committed.
    pub fn told(&self) -> watch::Receiver<u64> {
        self.told.subscribe()
    }

    /// Wakes whoever waits for events, after the commit.
    pub(super) fn tell(&self, seq: u64) {
        tell(&self.told, seq);
    }

    /// Writes events down that nothing else is stored with.
    pub async fn record_events(&self, events: &[Event], now: Timestamp) -> Result<(), StoreError> {
        let mut transaction = self.ledger.begin_with("BEGIN IMMEDIATE").await?;
        let mut last = 0;
        for event in events {
            last = note(&mut transaction, event, now).await?;
        }
        transaction.commit().await?;
        self.tell(last);
        Ok(())
    }

    /// At most `limit` events behind `seq`, in order. The number returned is the last that was looked at.
    pub async fn events_after(&self, seq: u64, limit: u32) -> Result<(Vec<Occurrence>, u64), StoreError> {
        let rows = sqlx::query("SELECT seq, at_ms, body FROM events WHERE seq > ? ORDER BY seq LIMIT ?")
            .bind(seq.cast_signed())
            .bind(limit)
            .fetch_all(&self.readers)
            .await?;
        let mut last = seq;
        let mut events = Vec::with_capacity(rows.len());
        for row in &rows {
            last = row.get::<i64, _>(0).cast_unsigned();
            match parse("events.body", row.get(2)) {
                Ok(event) => events.push(Occurrence { seq: Some(last), at: time(row.get(1)), event }),
                // Another version wrote it: the others still count.
                Err(error) => tracing::warn!(seq = last, "an event is passed over: {error}"),
            }
        }
        Ok((events, last))
    }

    /// One event.
    pub async fn event(&self, seq: u64) -> Result<Option<Occurrence>, StoreError> {
        let (events, _) = self.events_after(seq.saturating_sub(1), 1).await?;
        Ok(events.into_iter().find(|event| event.seq == Some(seq)))
    }

    /// What is kept.
    pub async fn event_range(&self) -> Result<Range, StoreError> {
        let row = sqlx::query(
            "SELECT coalesce((SELECT min(seq) FROM events), 0),
                    coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0)",
        )
        .fetch_one(&self.readers)
        .await?;
        let (oldest, newest) = (row.get::<i64, _>(0).cast_unsigned(), row.get::<i64, _>(1).cast_unsigned());
        Ok(Range { oldest: if oldest == 0 { newest + 1 } else { oldest }, newest })
    }

    /// Forgets events that are older than `before`, and what writes before it were answered.
    pub async fn forget_events(&self, before: Timestamp, answers_before: Timestamp) -> Result<u64, StoreError> {
        let mut transaction = self.ledger.begin_with("BEGIN IMMEDIATE").await?;
        let done = sqlx::query("DELETE FROM events WHERE at_ms < ?")
            .bind(before.as_millisecond())
            .execute(&mut *transaction)
            .await?;
        sqlx::query("DELETE FROM migration_lines WHERE at_ms < ?")
            .bind(before.as_millisecond())
            .execute(&mut *transaction)
            .await?;
        sqlx::query("DELETE FROM dead_letters WHERE at_ms < ?")
            .bind(before.as_millisecond())
            .execute(&mut *transaction)
            .await?;
        sqlx::query("DELETE FROM idempotency WHERE at_ms < ?")
            .bind(answers_before.as_millisecond())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(done.rows_affected())
    }
}
