//! Destination, last of all: the container becomes an ordinary one.

use std::sync::Arc;

use fog_api::agent::{Command, Report, Role};

use super::Inner;
use super::failure::{Cause, StepResult};
use super::images::{Folder, remove_folder};
use super::reserve::restore_folder;
use crate::runtime::{DockerError, specification};

pub(super) async fn settle(inner: &Arc<Inner>, command: &Command) -> StepResult {
    let Some(record) = inner.record(command.migration) else { return Ok(Report::default()) };
    if let Some(container) = &record.container {
        if let Some(policy) = record.restart_policy.filter(|policy| !specification::never_restarts(policy)) {
            match inner.docker.set_restart_policy(container, &policy).await {
                // Its user removed it meanwhile.
                Ok(()) | Err(DockerError::NotFound(_)) => {}
                Err(error) => return Err(Cause::docker("restore the restart policy")(error)),
            }
        }
        remove_folder(&restore_folder(inner, container)).await?;
    }
    inner.arrivals.forget(command.migration);
    inner.files.end(command.migration).await;
    Folder::of(inner, command.migration).remove().await?;
    inner.note(command, Role::Destination, |record| record.closed = true).await?;
    Ok(Report::default())
}
