//! Migrations, and the one transaction that moves ownership.

use fog_api::agent::{Specification, Ticket};
use fog_api::decision::Decision;
use fog_api::event::Event;
use fog_api::migration::LogLine;
use fog_core::migration::Migration as State;
use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use super::{Store, StoreError, events, json, parse};

/// The record that people see.
type Record = fog_api::migration::Migration;

/// A migration to be written down, with the decision that it carries out.
#[derive(Debug, Clone)]
pub struct NewMigration {
    /// The record that people see.
    pub record: Record,
    /// The decision.
    pub decision: Decision,
    /// The source's epoch.
    pub epoch: u64,
    /// The agents' secret.
    pub ticket: Ticket,
}

/// A migration as stored.
#[derive(Debug, Clone)]
pub struct StoredMigration {
    /// The record that people see.
    pub record: Record,
    /// The protocol's state.
    pub state: State,
    /// The source's epoch.
    pub epoch: u64,
    /// The agents' secret, until finished.
    pub ticket: Option<Ticket>,
    /// The source's own configuration, once inspected and until finished.
    pub specification: Option<Specification>,
}

impl StoredMigration {
    /// The node that owns the workload once this state's ownership is written.
    pub fn owner_after(&self) -> &str {
        if self.state.is_destinations() { &self.record.destination } else { &self.record.source }
    }

    /// The epoch that goes with it: each of commit and a person's word has its own.
    pub fn epoch_after(&self) -> u64 {
        self.epoch + if self.state.resolution.is_some() { 2 } else { 1 }
    }
}

const COLUMNS: &str = "record, state, epoch, ticket, specification";

fn read(row: &SqliteRow) -> Result<StoredMigration, StoreError> {
    let specification: Option<String> = row.get(4);
    Ok(StoredMigration {
        record: parse("migrations.record", row.get(0))?,
        state: parse("migrations.state", row.get(1))?,
        epoch: row.get::<i64, _>(2).cast_unsigned(),
        ticket: row.get::<Option<String>, _>(3).map(Ticket),
        specification: specification.map(|text| parse("migrations.specification", &text)).transpose()?,
    })
}

async fn write(
    connection: &mut SqliteConnection,
    migration: &StoredMigration,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let finished = migration.state.is_finished();
    sqlx::query(
        "UPDATE migrations SET over = ?2, finished = ?3, state = ?4, record = ?5, updated_at_ms = ?6,
                ticket = CASE WHEN ?3 THEN NULL ELSE ticket END,
                specification = CASE WHEN ?3 THEN NULL ELSE coalesce(?7, specification) END
         WHERE id = ?1",
    )
    .bind(migration.record.id.to_string())
    .bind(migration.state.phase.is_over())
    .bind(finished)
    .bind(json(&migration.state))
    .bind(json(&migration.record))
    .bind(now.as_millisecond())
    .bind(migration.specification.as_ref().map(json))
    .execute(&mut *connection)
    .await?;
    events::note(connection, &Event::Migration { migration: migration.record.clone() }, now).await
}

impl Store {
    /// Writes a migration and its decision down, if the workload is still where the decision thought and not moving.
    pub async fn begin_migration(&self, new: &NewMigration, now: Timestamp) -> Result<(), StoreError> {
        let workload = new.record.workload.clone();
        let mut transaction = self.ledger.begin_with("BEGIN IMMEDIATE").await?;
        let owned = sqlx::query("SELECT 1 FROM ownership WHERE workload = ? AND owner = ? AND epoch = ?")
            .bind(&workload)
            .bind(&new.record.source)
            .bind(new.epoch.cast_signed())
            .fetch_optional(&mut *transaction)
            .await?;
        if owned.is_none() {
            return Err(StoreError::OwnerChanged { workload });
        }
        let inserted = sqlx::query(
            "INSERT INTO migrations (id, workload, epoch, over, finished, state, record, ticket, created_at_ms, updated_at_ms)
             VALUES (?, ?, ?, 0, 0, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(new.record.id.to_string())
        .bind(&workload)
        .bind(new.epoch.cast_signed())
        .bind(json(&State::default()))
        .bind(json(&new.record))
        .bind(&new.ticket.0)
        .bind(now.as_millisecond())
        .bind(now.as_millisecond())
        .execute(&mut *transaction)
        .await?;
        if inserted.rows_affected() == 0 {
            return Err(StoreError::AlreadyMigrating { workload });
        }
        super::decisions::write_decision(&mut transaction, &new.decision, now).await?;
        let begun = Event::Migration { migration: new.record.clone() };
        let seq = events::note(&mut transaction, &begun, now).await?;
        super::durably(transaction).await?;
        self.tell(seq);
        Ok(())
    }

    /// Keeps a migration's new state and record, in one transaction, synced.
    pub async fn save_migration(&self, migration: &StoredMigration, now: Timestamp) -> Result<(), StoreError> {
        let mut transaction = self.ledger.begin_with("BEGIN IMMEDIATE").await?;
        let seq = write(&mut transaction, migration, now).await?;
        super::durably(transaction).await?;
        self.tell(seq);
        Ok(())
    }

    /// Takes a migration up again that was over, if its state is still `before` and nothing else of its workload is under way.
    pub async fn reopen_migration(
        &self,
        before: &State,
        after: &StoredMigration,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let workload = || after.record.workload.clone();
        let mut transaction = self.ledger.begin_with("BEGIN IMMEDIATE").await?;
        let busy = sqlx::query("SELECT 1 FROM migrations WHERE workload = ? AND over = 0 AND id <> ?")
            .bind(&after.record.workload)
            .bind(after.record.id.to_string())
            .fetch_optional(&mut *transaction)
            .await?;
        if busy.is_some() {
            return Err(StoreError::AlreadyMigrating { workload: workload() });
        }
        let state: Option<String> = sqlx::query_scalar("SELECT state FROM migrations WHERE id = ?")
            .bind(after.record.id.to_string())
            .fetch_optional(&mut *transaction)
            .await?;
        let state: Option<State> = state.map(|text| parse("migrations.state", &text)).transpose()?;
        if state.as_ref() != Some(before) {
            return Err(StoreError::AlreadyMigrating { workload: workload() });
        }
        let seq = write(&mut transaction, after, now).await?;
        super::durably(transaction).await?;
        self.tell(seq);
        Ok(())
    }

    /// **The commit.** Moves ownership to the destination and keeps the state that this leads to, in one synced
    /// transaction. `false`: the workload's owner or epoch is not what this migration began with, nothing was written.
    /// Committing again what was committed already, because the reply was lost, is `true` and writes nothing.
    pub async fn commit_migration(&self, after: &StoredMigration, now: Timestamp) -> Result<bool, StoreError> {
        let mut transaction = self.ledger.begin_with("BEGIN IMMEDIATE").await?;
        // After a person's word: a node that lost its container, or one that still shows its frozen copy, may have changed the row.
        let condition = if after.state.resolution.is_some() {
            "epoch > ?5 AND epoch <= ?6 AND (owner IS NULL OR owner IN (?3, ?7))"
        } else {
            "owner = ?3 AND epoch = ?5"
        };
        let moved = sqlx::query(sqlx::AssertSqlSafe(format!(
            "UPDATE ownership SET owner = ?1, epoch = ?6, moved_at_ms = ?2, moved_from = ?3
             WHERE workload = ?4 AND {condition}"
        )))
        .bind(after.owner_after())
        .bind(now.as_millisecond())
        .bind(&after.record.source)
        .bind(&after.record.workload)
        .bind(after.epoch.cast_signed())
        .bind(after.epoch_after().cast_signed())
        .bind(&after.record.destination)
        .execute(&mut *transaction)
        .await?;
        if moved.rows_affected() != 1 {
            let state: Option<String> = sqlx::query_scalar("SELECT state FROM migrations WHERE id = ?")
                .bind(after.record.id.to_string())
                .fetch_optional(&mut *transaction)
                .await?;
            let state: Option<State> = state.map(|text| parse("migrations.state", &text)).transpose()?;
            return Ok(state.is_some_and(|state| state.is_owned() && state.resolution == after.state.resolution));
        }
        let seq = write(&mut transaction, after, now).await?;
        super::durably(transaction).await?;
        self.tell(seq);
        Ok(true)
    }

    /// One migration.
    pub async fn migration(&self, id: Uuid) -> Result<Option<StoredMigration>, StoreError> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM migrations WHERE id = ?")))
            .bind(id.to_string())
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// Adds lines to the logs of migrations.
    pub async fn add_lines(&self, lines: &[(Uuid, LogLine)]) -> Result<(), StoreError> {
        let mut transaction = self.telemetry.begin_with("BEGIN IMMEDIATE").await?;
        for (migration, line) in lines {
            sqlx::query("INSERT INTO migration_lines (migration, at_ms, body) VALUES (?, ?, ?)")
                .bind(migration.to_string())
                .bind(line.at.as_millisecond())
                .bind(json(line))
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Every migration with something left to do, oldest first.
    pub async fn unfinished_migrations(&self) -> Result<Vec<StoredMigration>, StoreError> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM migrations WHERE finished = 0 ORDER BY id"
        )))
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(read).collect()
    }

    /// How each workload's migrations since `since` ended, newest first: what cooldown and back-off need.
    pub async fn ended_since(&self, since: Timestamp) -> Result<Vec<Record>, StoreError> {
        let rows = sqlx::query("SELECT record FROM migrations WHERE over = 1 AND created_at_ms >= ? ORDER BY id DESC")
            .bind(since.as_millisecond())
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(|row| parse("migrations.record", row.get(0))).collect()
    }
}
