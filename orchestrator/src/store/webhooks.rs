//! Webhooks, how far each has come, and what their receivers did not take.

use fog_api::webhook::{DeadLetter, Webhook};
use sqlx::Row;
use uuid::Uuid;

use super::{Store, StoreError, json, parse};

/// A webhook with what only the orchestrator knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredWebhook {
    /// What people see.
    pub webhook: Webhook,
    /// What signs its deliveries.
    pub secret: String,
    /// Every event up to this one is dealt with.
    pub done: u64,
}

impl Store {
    /// Every webhook, oldest first.
    pub async fn webhooks(&self) -> Result<Vec<StoredWebhook>, StoreError> {
        let rows = sqlx::query("SELECT body, secret, done FROM webhooks ORDER BY id").fetch_all(&self.readers).await?;
        rows.iter()
            .map(|row| {
                let webhook = parse("webhooks.body", row.get(0))?;
                Ok(StoredWebhook { webhook, secret: row.get(1), done: row.get::<i64, _>(2).cast_unsigned() })
            })
            .collect()
    }

    /// One webhook.
    pub async fn webhook(&self, id: Uuid) -> Result<Option<StoredWebhook>, StoreError> {
        Ok(self.webhooks().await?.into_iter().find(|stored| stored.webhook.id == id))
    }

    /// Adds a webhook; it begins behind the newest event.
    pub async fn add_webhook(&self, webhook: &Webhook, secret: &str) -> Result<StoredWebhook, StoreError> {
        let row = sqlx::query(
            "INSERT INTO webhooks (id, body, secret, done)
             VALUES (?, ?, ?, coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0)) RETURNING done",
        )
        .bind(webhook.id.to_string())
        .bind(json(webhook))
        .bind(secret)
        .fetch_one(&self.ledger)
        .await?;
        let done = row.get::<i64, _>(0).cast_unsigned();
        Ok(StoredWebhook { webhook: webhook.clone(), secret: secret.to_owned(), done })
    }

    /// Removes a webhook and its dead letters; `false`: there is none.
    pub async fn remove_webhook(&self, id: Uuid) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM webhooks WHERE id = ?").bind(id.to_string()).execute(&self.ledger).await?;
        Ok(done.rows_affected() == 1)
    }

    /// A webhook has come this far; what was given up on the way is kept, in the same transaction.
    pub async fn webhook_done(&self, id: Uuid, seq: u64, letter: Option<&DeadLetter>) -> Result<(), StoreError> {
        let mut transaction = self.ledger.begin_with("BEGIN IMMEDIATE").await?;
        let updated = sqlx::query("UPDATE webhooks SET done = ? WHERE id = ?")
            .bind(seq.cast_signed())
            .bind(id.to_string())
            .execute(&mut *transaction)
            .await?;
        if let Some(letter) = letter.filter(|_| updated.rows_affected() == 1) {
            sqlx::query("INSERT INTO dead_letters (id, webhook, at_ms, body) VALUES (?, ?, ?, ?)")
                .bind(letter.id.to_string())
                .bind(id.to_string())
                .bind(letter.at.as_millisecond())
                .bind(json(letter))
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// One dead letter.
    pub async fn dead_letter(&self, id: Uuid) -> Result<Option<DeadLetter>, StoreError> {
        let row = sqlx::query("SELECT body FROM dead_letters WHERE id = ?")
            .bind(id.to_string())
            .fetch_optional(&self.readers)
            .await?;
        row.map(|row| parse("dead_letters.body", row.get(0))).transpose()
    }

    /// Keeps what came of another attempt; `None`: it was delivered or is not wanted any more.
    pub async fn settle_dead_letter(&self, id: Uuid, letter: Option<&DeadLetter>) -> Result<(), StoreError> {
        let query = match letter {
            Some(letter) => sqlx::query("UPDATE dead_letters SET body = ? WHERE id = ?").bind(json(letter)),
            None => sqlx::query("DELETE FROM dead_letters WHERE id = ?"),
        };
        query.bind(id.to_string()).execute(&self.ledger).await?;
        Ok(())
    }
}
