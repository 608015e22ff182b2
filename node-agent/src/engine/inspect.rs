//! Source: read the container's configuration, and refuse what cannot move, with every reason at once.

use std::sync::Arc;

use fog_api::agent::{Command, Report, Specification};
use serde_json::{Value, json};

use super::failure::{Cause, StepResult};
use super::files_out::FilesOut;
use super::{Inner, address, blocking, image, images, tasks, volumes};
use crate::runtime::{obstacles, specification};

pub(super) async fn inspect(inner: &Arc<Inner>, command: &Command) -> StepResult {
    let (mut inspect, memory_bytes) = movable(inner, &command.workload).await?;
    let image = inspect.get("Image").and_then(Value::as_str).unwrap_or_default().to_owned();
    address::note(inner, &mut inspect).await?;
    inspect[specification::MEMORY] = json!(memory_bytes);
    inspect[volumes::BYTES] = json!(FilesOut::of(inner, &inspect).await?.bytes().await?);
    let size = inner.docker.image_bytes(&image).await.map_err(Cause::docker("look at the image"))?;
    inspect[image::BYTES] = json!(size);
    let specification = Specification { name: command.workload.clone(), image, inspect };
    Ok(Report { specification: Some(specification), ..Report::default() })
}

/// The container as it is now, with the memory it uses, if nothing stands in the way of moving it.
pub(super) async fn movable(inner: &Arc<Inner>, workload: &str) -> Result<(Value, u64), Cause> {
    let inspect = inner.docker.inspect(workload).await.map_err(Cause::docker("inspect the container"))?;
    let mut inspect =
        inspect.ok_or_else(|| Cause::gone(format!("There is no container {workload} on {}.", inner.config.node)))?;
    let mut found = obstacles::obstacles(&inspect);
    found.extend(volumes::note(inner, workload, &mut inspect).await?);
    let init = init_of(&inspect);
    let (memory_bytes, stuck) = match init {
        Some(init) => blocking(move || (tasks::resident_bytes(init), tasks::has_stuck_tasks(init))).await?,
        None => (0, false),
    };
    if stuck {
        found.push(
            "A process in the container is stopped (SIGSTOP), and CRIU cannot dump it on cgroup v1; continue it first."
                .to_owned(),
        );
    }
    found.extend(images::room(inner, memory_bytes, 1).err());
    if found.is_empty() {
        Ok((inspect, memory_bytes))
    } else {
        Err(Cause::refused(format!("{workload} cannot be moved. {}", found.join(" "))))
    }
}

/// Docker's id of the container.
pub(super) fn id_of(inspect: &Value) -> Result<String, Cause> {
    let id = inspect.get("Id").and_then(Value::as_str).filter(|id| !id.is_empty());
    id.map(str::to_owned).ok_or_else(|| Cause::gone("Docker does not say which id the container has."))
}

/// The container's first process as the host sees it.
pub(super) fn init_of(inspect: &Value) -> Option<i32> {
    let pid = inspect.pointer("/State/Pid").and_then(Value::as_i64)?;
    i32::try_from(pid).ok().filter(|pid| *pid > 1)
}

/// One of the flags in `State`.
pub(super) fn state_is(inspect: &Value, flag: &str) -> bool {
    inspect.pointer("/State").and_then(|state| state.get(flag)).and_then(Value::as_bool).unwrap_or(false)
}
