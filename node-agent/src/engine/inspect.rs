//! Source: read the container's configuration, and refuse what cannot move, with every reason at once.

use std::sync::Arc;
use std::time::Duration;

use fog_api::agent::{Command, Examined, Report, Specification};
use fog_api::preflight::{Finding, Weight};
use serde_json::{Value, json};

use super::failure::{Cause, StepResult};
use super::files_out::FilesOut;
use super::{Inner, address, bind_mounts, blocking, image, images, open_files, tasks, volumes};
use crate::runtime::{obstacles, specification};

pub(super) async fn inspect(inner: &Arc<Inner>, command: &Command, bind_mounts: &[String]) -> StepResult {
    let (inspect, memory_bytes) = movable(inner, &command.workload, bind_mounts).await?;
    let files = FilesOut::of(inner, &inspect).await?.bytes().await?;
    let specification = specification(inner, &command.workload, inspect, memory_bytes, Some(files)).await?;
    Ok(Report { specification: Some(specification), ..Report::default() })
}

/// What the destination needs to know.
async fn specification(
    inner: &Arc<Inner>,
    workload: &str,
    mut inspect: Value,
    memory_bytes: u64,
    files: Option<u64>,
) -> Result<Specification, Cause> {
    let image = inspect.get("Image").and_then(Value::as_str).unwrap_or_default().to_owned();
    address::note(inner, &mut inspect).await?;
    inspect[specification::MEMORY] = json!(memory_bytes);
    inspect[volumes::BYTES] = json!(files);
    let size = inner.docker.image_bytes(&image).await.map_err(Cause::docker("look at the image"))?;
    inspect[image::BYTES] = json!(size);
    Ok(Specification { name: workload.to_owned(), image, inspect })
}

/// A container as it is now, and everything that stands in the way of moving it.
struct Looked {
    inspect: Value,
    memory_bytes: u64,
    findings: Vec<Finding>,
}

async fn look(inner: &Arc<Inner>, workload: &str, allowed: &[String]) -> Result<Looked, Cause> {
    let inspect = inner.docker.inspect(workload).await.map_err(Cause::docker("inspect the container"))?;
    let mut inspect =
        inspect.ok_or_else(|| Cause::gone(format!("There is no container {workload} on {}.", inner.config.node)))?;
    let mut findings = obstacles::obstacles(&inspect);
    let criu = inner.criu.get_or_init(crate::tools::criu_version);
    let (volumes, criu) = tokio::join!(volumes::note(inner, workload, &mut inspect), criu);
    findings.extend(volumes?.into_iter().map(|message| Finding::blocker("volumes", message)));
    let bound = bind_mounts::at_source(inner, workload, &inspect, allowed).await?;
    findings.extend(bound.into_iter().map(|message| Finding::blocker("mounts", message)));
    let memory_bytes = match init_of(&inspect) {
        Some(init) => {
            let criu = criu.clone();
            let look = move || {
                (tasks::resident_bytes(init), tasks::has_stuck_tasks(init), open_files::findings(init, criu.as_ref()))
            };
            let (memory_bytes, stuck, open) = blocking(look).await?;
            findings.extend(open);
            if stuck {
                let message = "A process in the container is stopped (SIGSTOP), and CRIU cannot dump it on cgroup v1; \
                               continue it first.";
                findings.push(Finding::blocker("stopped-processes", message));
            }
            memory_bytes
        }
        None => 0,
    };
    findings.extend(images::room(inner, memory_bytes, 1).err().map(|message| Finding::blocker("memory", message)));
    Ok(Looked { inspect, memory_bytes, findings })
}

/// The container as it is now, with the memory it uses, if nothing stands in the way of moving it.
pub(super) async fn movable(inner: &Arc<Inner>, workload: &str, bind_mounts: &[String]) -> Result<(Value, u64), Cause> {
    let Looked { inspect, memory_bytes, findings } = look(inner, workload, bind_mounts).await?;
    match refusal(&findings) {
        None => Ok((inspect, memory_bytes)),
        Some(reasons) => Err(Cause::refused(format!("{workload} cannot be moved. {reasons}"))),
    }
}

/// The blockers in one text, if there are any.
pub(super) fn refusal(findings: &[Finding]) -> Option<String> {
    let blockers = findings.iter().filter(|finding| finding.weight == Weight::Blocker);
    let reasons: Vec<&str> = blockers.map(|finding| finding.message.as_str()).collect();
    (!reasons.is_empty()).then(|| reasons.join(" "))
}

/// Measuring a large tree of files may take longer than somebody who asks wants to wait.
const LONGEST_LOOK: Duration = Duration::from_millis(120);

/// Preflight, at the source: what `inspect` would say, without refusing.
pub(super) async fn preflight(inner: &Arc<Inner>, workload: &str, bind_mounts: &[String]) -> Result<Examined, Cause> {
    let Looked { inspect, memory_bytes, mut findings } = look(inner, workload, bind_mounts).await?;
    let files = async { FilesOut::of(inner, &inspect).await?.bytes().await };
    let files = match tokio::time::timeout(LONGEST_LOOK, files).await {
        Ok(Ok(bytes)) => Some(bytes),
        Ok(Err(cause)) => {
            findings.push(Finding::blocker("files", cause.message()));
            None
        }
        Err(_) => {
            let message = "Its files are too many to be measured in a moment; whether there is room for them is seen when it moves.";
            findings.push(Finding::warning("disk", message));
            None
        }
    };
    let specification = specification(inner, workload, inspect, memory_bytes, files).await?;
    Ok(Examined { findings, specification: Some(specification), ..Examined::default() })
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
