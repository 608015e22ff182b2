//! Destination, last of all: the container becomes an ordinary one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use fog_api::agent::{Command, Report, Role, Stage};

use super::failure::{Cause, StepResult};
use super::images::{Folder, remove_folder};
use super::reserve::restore_folder;
use super::{Engine, Inner, Reporter, ms_since};
use crate::runtime::{DockerError, specification};

pub(super) async fn settle(inner: &Arc<Inner>, command: &Command, reporter: &Reporter) -> StepResult {
    let Some(record) = inner.record(command.migration) else { return Ok(Report::default()) };
    let mut stages_ms = BTreeMap::new();
    if record.memory_pending {
        let began = Instant::now();
        inner.world.memory_came(&Engine(Arc::clone(inner)), command.migration, reporter).await?;
        stages_ms.insert(Stage::Drain, ms_since(began));
        inner.note(command, Role::Destination, |record| record.memory_pending = false).await?;
    }
    if let Some(container) = &record.container {
        if let Some(policy) = record.restart_policy.filter(|policy| !specification::never_restarts(policy)) {
            match inner.world.set_restart_policy(container, &policy).await {
                // Its user removed it meanwhile.
                Ok(()) | Err(DockerError::NotFound(_)) => {}
                Err(error) => return Err(Cause::docker("restore the restart policy")(error)),
            }
        }
        remove_folder(&restore_folder(inner, container)).await?;
    }
    inner.arrivals.forget(command.migration);
    inner.files.end(command.migration).await;
    inner.world.end_memory(&Engine(Arc::clone(inner)), command.migration).await;
    Folder::of(inner, command.migration).remove().await?;
    inner.note(command, Role::Destination, |record| record.closed = true).await?;
    Ok(Report { stages_ms, ..Report::default() })
}
