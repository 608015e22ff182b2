//! Decisions, with every candidate and factor.

use fog_api::decision::Decision;
use sqlx::Row;
use uuid::Uuid;

use super::{Store, StoreError, parse};

impl Store {
    /// One decision.
    pub async fn decision(&self, id: Uuid) -> Result<Option<Decision>, StoreError> {
        let row = sqlx::query("SELECT body FROM decisions WHERE id = ?")
            .bind(id.to_string())
            .fetch_optional(&self.readers)
            .await?;
        row.map(|row| parse("decisions.body", row.get(0))).transpose()
    }
}
