//! What must survive: SQLite in WAL mode. The only place that names sqlx, so that a second backend fits.
//!
//! Two writers on one file. The *ledger* (ownership, migrations, decisions) is synced to the disk with every
//! transaction; *telemetry* (nodes, samples) is not: the last seconds of it may be lost with the power, and agents keep
//! what was not acknowledged.

mod decisions;
mod delays;
mod events;
#[cfg(debug_assertions)]
mod fail_point;
mod migrations;
mod ownership;
mod page;
mod policies;
mod samples;
mod telemetry;
mod webhooks;
mod writer;
mod writes;

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tokio::sync::watch;

pub use decisions::GivenLimits;
pub use events::Range as EventRange;
pub use migrations::{NewMigration, StoredMigration};
pub use ownership::Ownership;
pub use page::{Condition, Listing, Placed};
pub use policies::StoredPolicy;
pub use samples::Retention;
pub use telemetry::{NodeOrder, Ordered, StoredNode};
pub use webhooks::StoredWebhook;
pub use writer::Class;
pub use writes::{Answered, Claim, WriteKey};

/// The store.
#[derive(Debug, Clone)]
pub struct Store {
    ledger: SqlitePool,
    telemetry: SqlitePool,
    readers: SqlitePool,
    told: watch::Sender<u64>,
    writer: writer::Writer,
    keep: Retention,
    file: PathBuf,
}

/// How large the database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreSize {
    /// The database itself.
    pub database_bytes: u64,
    /// The write-ahead log beside it.
    pub log_bytes: u64,
}

/// What can go wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The writer has ended: the orchestrator is being stopped.
    #[error("the database is closed")]
    Closed,
    /// What was written together with this failed.
    #[error("{0}")]
    Together(std::sync::Arc<StoreError>),
    /// The database said no.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// Its tables could not be brought to this version's form.
    #[error("the database could not be upgraded: {0}")]
    Upgrade(#[from] sqlx::migrate::MigrateError),
    /// A row does not hold what was written.
    #[error("the database holds something unreadable in {what}: {error}")]
    Unreadable {
        /// Table and column.
        what: &'static str,
        /// Why.
        error: serde_json::Error,
    },
    /// The workload has an unfinished migration.
    #[error("{workload} is being migrated already")]
    AlreadyMigrating {
        /// The workload.
        workload: String,
    },
    /// The workload is not where the caller thought.
    #[error("{workload} has changed its owner meanwhile")]
    OwnerChanged {
        /// The workload.
        workload: String,
    },
}

impl Store {
    /// Opens or makes the database.
    pub async fn open(file: &Path) -> Result<Self, StoreError> {
        let options = options(file);
        let sync = |synchronous| options.clone().synchronous(synchronous);
        let one = || SqlitePoolOptions::new().max_connections(1);
        let ledger = one().connect_with(sync(SqliteSynchronous::Full)).await?;
        sqlx::migrate!("../migrations/sqlite").run(&ledger).await?;
        let telemetry = one()
            .connect_with(
                sync(SqliteSynchronous::Normal)
                    // Every sample changes a page of its node: the later they are copied back, the fewer times each.
                    .pragma("wal_autocheckpoint", "4000")
                    .pragma("journal_size_limit", "67108864"),
            )
            .await?;
        let readers = SqlitePoolOptions::new().max_connections(4).connect_with(options.clone().read_only(true)).await?;
        Ok(Self::of(ledger, telemetry, readers, file))
    }

    /// The same with one connection for everything, of which each step of each statement asks first, on the connection's
    /// own thread: `may_go_on` can take its time, and `false` ends the statement. So a simulation has a disk that is slow,
    /// or that dies in the middle of a transaction, and no two answers race.
    pub async fn open_single(
        file: &Path,
        may_go_on: impl Fn() -> bool + Clone + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        let one = SqlitePoolOptions::new().max_connections(1).test_before_acquire(false);
        let one = one.idle_timeout(None).max_lifetime(None).after_connect(move |connection, _| {
            let may_go_on = may_go_on.clone();
            Box::pin(async move {
                connection.lock_handle().await?.set_progress_handler(1, may_go_on);
                Ok(())
            })
        });
        let pool = one.connect_with(options(file).synchronous(SqliteSynchronous::Full)).await?;
        sqlx::migrate!("../migrations/sqlite").run(&pool).await?;
        Ok(Self::of(pool.clone(), pool.clone(), pool, file))
    }

    fn of(ledger: SqlitePool, telemetry: SqlitePool, readers: SqlitePool, file: &Path) -> Self {
        let told = watch::Sender::new(0);
        let writer = writer::Writer::start(telemetry.clone(), told.clone());
        let keep = Retention::default();
        Self { ledger, telemetry, readers, told, writer, keep, file: file.to_owned() }
    }

    /// How long samples are kept.
    pub fn keeping(self, keep: Retention) -> Self {
        Self { keep, ..self }
    }

    /// How large its files are.
    pub async fn size(&self) -> Result<StoreSize, StoreError> {
        let log = self.file.with_extension("db-wal");
        let database_bytes = tokio::fs::metadata(&self.file).await.map_err(sqlx::Error::Io)?.len();
        let log_bytes = tokio::fs::metadata(log).await.map_or(0, |file| file.len());
        Ok(StoreSize { database_bytes, log_bytes })
    }

    /// Whether it answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.readers).await?;
        Ok(())
    }

    /// What is damaged, if anything: SQLite's own quick look, at the tables that say who owns what.
    pub async fn check(&self) -> Result<Option<String>, StoreError> {
        for table in ["ownership", "migrations"] {
            let sql = format!("PRAGMA quick_check({table})");
            let rows: Vec<(String,)> = sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(&self.readers).await?;
            if let Some((damage,)) = rows.into_iter().find(|(word,)| word != "ok") {
                return Ok(Some(damage));
            }
        }
        Ok(None)
    }

    /// Writes everything out and closes the file.
    pub async fn close(&self) {
        self.readers.close().await;
        self.telemetry.close().await;
        self.ledger.close().await;
    }
}

fn options(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(Duration::from_secs(10))
}

/// Commits a transaction of the ledger.
async fn durably(transaction: sqlx::SqliteTransaction<'_>) -> Result<(), sqlx::Error> {
    #[cfg(debug_assertions)]
    fail_point::before();
    transaction.commit().await?;
    #[cfg(debug_assertions)]
    fail_point::after();
    Ok(())
}

fn time(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn json<T: serde::Serialize>(value: &T) -> String {
    // Our own plain data: strings as keys, no custom serialisers that fail.
    serde_json::to_string(value).expect("wire types serialise")
}

fn parse<T: serde::de::DeserializeOwned>(what: &'static str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Unreadable { what, error })
}

#[cfg(test)]
mod tests;
