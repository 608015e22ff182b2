//! Every policy that was ever in force.

use fog_api::event::Event;
use fog_api::policy::PolicyVersion;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::{Store, StoreError, events, json, parse};

/// A policy as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPolicy {
    /// Its number, its author and so on.
    pub version: PolicyVersion,
    /// TOML.
    pub text: String,
}

fn read(row: &SqliteRow) -> Result<StoredPolicy, StoreError> {
    Ok(StoredPolicy { version: parse("policies.body", row.get(0))?, text: row.get(1) })
}

async fn newest(connection: &mut SqliteConnection) -> Result<u64, StoreError> {
    let row = sqlx::query("SELECT coalesce(max(version), 0) FROM policy_versions").fetch_one(connection).await?;
    Ok(row.get::<i64, _>(0).cast_unsigned())
}

impl Store {
    /// The newest policy.
    pub async fn newest_policy(&self) -> Result<Option<StoredPolicy>, StoreError> {
        let row = sqlx::query("SELECT body, text FROM policy_versions ORDER BY version DESC LIMIT 1")
            .fetch_optional(&self.ledger)
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// What the policy file said when it was last adopted.
    pub async fn newest_policy_file(&self) -> Result<Option<String>, StoreError> {
        let row = sqlx::query("SELECT text FROM policy_versions WHERE from_file ORDER BY version DESC LIMIT 1")
            .fetch_optional(&self.ledger)
            .await?;
        Ok(row.map(|row| row.get(0)))
    }

    /// One policy.
    pub async fn policy(&self, version: u64) -> Result<Option<StoredPolicy>, StoreError> {
        let Ok(version) = i64::try_from(version) else { return Ok(None) };
        let row = sqlx::query("SELECT body, text FROM policy_versions WHERE version = ?")
            .bind(version)
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// Writes a policy down under the next number, if `expected` is still the newest. `Err(number)`: it is not.
    pub async fn add_policy(
        &self,
        mut policy: StoredPolicy,
        from_file: bool,
        expected: Option<u64>,
    ) -> Result<Result<StoredPolicy, u64>, StoreError> {
        let mut transaction = self.ledger.begin_with("BEGIN IMMEDIATE").await?;
        let newest = newest(&mut transaction).await?;
        if expected.is_some_and(|expected| expected != newest) {
            return Ok(Err(newest));
        }
        policy.version.version = newest + 1;
        let now = policy.version.at;
        sqlx::query("INSERT INTO policy_versions (version, body, text, from_file) VALUES (?, ?, ?, ?)")
            .bind(policy.version.version.cast_signed())
            .bind(json(&policy.version))
            .bind(&policy.text)
            .bind(from_file)
            .execute(&mut *transaction)
            .await?;
        let event = Event::Policy { version: policy.version.version, by: policy.version.by.clone() };
        let seq = events::note(&mut transaction, &event, now).await?;
        transaction.commit().await?;
        self.tell(seq);
        Ok(Ok(policy))
    }
}
