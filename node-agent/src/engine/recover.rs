//! After a start of the agent: what an earlier run left behind.
//!
//! Nothing here thaws, kills or continues a container. A frozen source and a held copy wait for the orchestrator's
//! word, which comes with the commands it repeats. Only what no migration refers to any more is removed.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use fog_api::agent::Role;

use super::images::remove_tree;
use super::{Engine, EngineError, blocking, lock};

impl Engine {
    /// Removes leftovers that no open migration refers to, and logs the migrations that are open.
    pub async fn recover(&self) -> Result<(), EngineError> {
        let engine = self.clone();
        blocking(move || engine.remove_leftovers()).await.unwrap_or(Ok(()))
    }

    fn remove_leftovers(&self) -> Result<(), EngineError> {
        let (mut images, mut restores) = (BTreeSet::new(), BTreeSet::new());
        for record in lock(&self.0.journal).iter().filter(|record| !record.closed) {
            tracing::warn!(
                migration = %record.migration, workload = record.workload, role = ?record.role, froze = record.froze,
                resumed = record.resumed, "a migration is unfinished; waiting for the orchestrator's word"
            );
            images.insert(OsString::from(record.migration.to_string()));
            if record.role == Role::Destination {
                restores.extend(record.container.as_ref().map(OsString::from));
            }
        }
        self.recover_tickets();
        keep_only(&self.0.config.images_dir, &images)?;
        keep_only(&self.0.config.run_dir.join("restore"), &restores)
    }
}

/// Removes the folders whose names nobody knows.
fn keep_only(folder: &Path, known: &BTreeSet<OsString>) -> Result<(), EngineError> {
    for entry in std::fs::read_dir(folder).map_err(EngineError::at(folder))?.flatten() {
        let path = entry.path();
        if path.is_dir() && !known.contains(&entry.file_name()) {
            tracing::info!(path = %path.display(), "removes a leftover");
            remove_tree(&path).map_err(EngineError::at(&path))?;
        }
    }
    Ok(())
}
