//! What is kept of every write: the audit, and the answers that a repetition gets again. And the tokens that write.

use fog_api::audit::AuditEntry;
use fog_api::identity::Token;
use jiff::Timestamp;
use sqlx::Row;

use super::{Store, StoreError, json, parse};

/// Who repeats what: the token's name and its `Idempotency-Key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteKey {
    /// The token's name.
    pub who: String,
    /// The key.
    pub key: String,
}

/// An answer as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// HTTP status.
    pub status: u16,
    /// Name and value of the headers that belong to it.
    pub headers: Vec<(String, String)>,
    /// The body; `None` when it held a secret.
    pub body: Option<Vec<u8>>,
}

/// What a key is already known for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// Nothing: it is the caller's from now on.
    New,
    /// This very request, and it was answered so.
    Answered(Answered),
    /// This very request, and its answer is not known: it is under way, or was when the orchestrator ended.
    UnderWay,
    /// Another request.
    Differs,
}

impl Store {
    /// Claims a key before its write is done.
    pub async fn claim_key(&self, key: &WriteKey, fingerprint: &str, now: Timestamp) -> Result<Claim, StoreError> {
        let inserted = sqlx::query(
            "INSERT INTO idempotency (who, key, fingerprint, at_ms) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(&key.who)
        .bind(&key.key)
        .bind(fingerprint)
        .bind(now.as_millisecond())
        .execute(&self.ledger)
        .await?;
        if inserted.rows_affected() == 1 {
            return Ok(Claim::New);
        }
        let row = sqlx::query("SELECT fingerprint, status, headers, answer FROM idempotency WHERE who = ? AND key = ?")
            .bind(&key.who)
            .bind(&key.key)
            .fetch_optional(&self.ledger)
            .await?;
        let Some(row) = row else { return Ok(Claim::UnderWay) };
        if row.get::<String, _>(0) != fingerprint {
            return Ok(Claim::Differs);
        }
        let Some(status) = row.get::<Option<u16>, _>(1) else { return Ok(Claim::UnderWay) };
        let headers = row.get::<Option<String>, _>(2).unwrap_or_else(|| "[]".to_owned());
        Ok(Claim::Answered(Answered { status, headers: parse("idempotency.headers", &headers)?, body: row.get(3) }))
    }

    /// A write was answered: adds it to the audit and, in the same transaction, keeps what its claimed key was answered. No
    /// answer forgets the key, because nothing was done.
    pub async fn written(
        &self,
        entry: &AuditEntry,
        key: Option<(&WriteKey, Option<&Answered>)>,
    ) -> Result<(), StoreError> {
        let mut transaction = self.ledger.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query("INSERT INTO audit (id, at_ms, body) VALUES (?, ?, ?)")
            .bind(entry.id.to_string())
            .bind(entry.at.as_millisecond())
            .bind(json(entry))
            .execute(&mut *transaction)
            .await?;
        if let Some((key, answered)) = key {
            let query = match answered {
                Some(answered) => {
                    sqlx::query("UPDATE idempotency SET status = ?, headers = ?, answer = ? WHERE who = ? AND key = ?")
                        .bind(answered.status)
                        .bind(json(&answered.headers))
                        .bind(answered.body.as_deref())
                }
                None => sqlx::query("DELETE FROM idempotency WHERE who = ? AND key = ?"),
            };
            query.bind(&key.who).bind(&key.key).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Forgets the audit before `before`.
    pub async fn forget_audit(&self, before: Timestamp) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM audit WHERE at_ms < ?").bind(before.as_millisecond()).execute(&self.ledger).await?;
        Ok(())
    }

    /// Every token with its hash.
    pub async fn tokens(&self) -> Result<Vec<(String, Token)>, StoreError> {
        let rows = sqlx::query("SELECT hash, body FROM tokens ORDER BY name").fetch_all(&self.ledger).await?;
        rows.iter().map(|row| Ok((row.get(0), parse("tokens.body", row.get(1))?))).collect()
    }

    /// Adds a token; `false`: the name is taken.
    pub async fn add_token(&self, token: &Token, hash: &str) -> Result<bool, StoreError> {
        let done =
            sqlx::query("INSERT INTO tokens (name, hash, at_ms, body) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")
                .bind(&token.name)
                .bind(hash)
                .bind(token.created_at.as_millisecond())
                .bind(json(token))
                .execute(&self.ledger)
                .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Removes a token; `false`: there is none of that name.
    pub async fn remove_token(&self, name: &str) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM tokens WHERE name = ?").bind(name).execute(&self.ledger).await?;
        Ok(done.rows_affected() == 1)
    }
}
