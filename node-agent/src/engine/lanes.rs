//! One step of a migration at a time; giving up overtakes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::lock;

/// What the steps of one migration share.
#[derive(Debug, Clone, Default)]
pub(super) struct Lane {
    /// `thaw` and `abandon` set it; running steps end soon after.
    pub(super) cancel: CancellationToken,
    /// Held by the step that runs.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
}

/// The lanes of all migrations that are under way.
#[derive(Debug, Default)]
pub(super) struct Lanes(Mutex<HashMap<Uuid, Lane>>);

impl Lanes {
    pub(super) fn enter(&self, migration: Uuid) -> Lane {
        lock(&self.0).entry(migration).or_default().clone()
    }

    pub(super) fn leave(&self, migration: Uuid) {
        lock(&self.0).remove(&migration);
    }
}
