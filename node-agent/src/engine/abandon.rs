//! Destination, rolling back: nothing of the migration stays. By a person's word also a copy that runs already.

use std::sync::Arc;

use fog_api::agent::{Command, Report, Role, Step};
use serde_json::Value;

use super::failure::{Cause, StepResult};
use super::images::{Folder, remove_folder};
use super::reserve::{MARK, restore_folder};
use super::{Engine, Inner, bind_mounts, discard, volumes};

pub(super) async fn abandon(inner: &Arc<Inner>, command: &Command) -> StepResult {
    let record = inner.record(command.migration);
    if let Some(record) = &record {
        if record.role != Role::Destination {
            return Err(Cause::refused("This node is the source of the migration, not its destination."));
        }
        if record.resumed && !record.is_a_persons_word(command.epoch) {
            return Err(Cause::refused("The container was resumed here; it belongs to this node."));
        }
    }
    inner.arrivals.forget(command.migration);
    inner.files.end(command.migration).await;
    // Up to its end the stream may have brought the image, and the container was created.
    let record = inner.record(command.migration).or(record);
    let container = match &record {
        Some(record) if record.container.is_some() => record.container.clone(),
        Some(record) if record.has_begun(Step::Reserve) => unnoted(inner, command).await?,
        _ => None,
    };
    if let Some(container) = container {
        discard::remove(inner, &container).await?;
        remove_folder(&restore_folder(inner, &container)).await?;
    }
    // The held processes are dead: nobody misses their memory any more.
    inner.world.end_memory(&Engine(Arc::clone(inner)), command.migration).await;
    if let Some(record) = &record {
        volumes::remove(inner, &record.volumes).await?;
        bind_mounts::remove(&record.folders, &record.made).await?;
    }
    Folder::of(inner, command.migration).remove().await?;
    inner.note(command, Role::Destination, |record| record.closed = true).await?;
    Ok(Report::default())
}

/// A container that Docker created just before the agent ended: of this name, with this migration's mark.
async fn unnoted(inner: &Arc<Inner>, command: &Command) -> Result<Option<String>, Cause> {
    let inspect = inner.world.inspect(&command.workload).await.map_err(Cause::docker("look for the container"))?;
    let ours = inspect.filter(|inspect| {
        let mark = inspect.pointer("/HostConfig/Annotations").and_then(|annotations| annotations.get(MARK));
        mark.and_then(Value::as_str) == Some(command.migration.to_string().as_str())
    });
    Ok(ours.and_then(|inspect| inspect.get("Id")?.as_str().map(str::to_owned)))
}
