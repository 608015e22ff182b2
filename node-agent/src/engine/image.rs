//! The image, where the destination does not have it: saved at the source, loaded at the destination, nothing in between.
//!
//! It travels by its id, so that no name at the destination changes its meaning; the name it was started with is given
//! to it there if nobody has it. An image stays when the migration is rolled back: it is a cache, not a copy.

use std::sync::Arc;
use std::time::Duration;

use fog_api::agent::{Command, FailureKind, Specification, Stage};
use futures_util::StreamExt;
use serde_json::Value;
use tokio::sync::mpsc;

use super::failure::Cause;
use super::{Inner, Reporter, reserve};
use crate::transfer::Outgoing;

/// Where `inspect` notes how large the image is. Docker does not know this field.
pub(super) const BYTES: &str = "FogshiftImageBytes";

/// A silent stream counts as broken after `transfer::IDLE`; this is well below.
const ALIVE: Duration = Duration::from_secs(5);

/// Source: sends the image if the destination wants it.
pub(super) async fn offer(
    inner: &Inner,
    inspect: &Value,
    outgoing: &mut Outgoing,
    peer: &str,
    reporter: &Reporter,
) -> Result<(), Cause> {
    if !outgoing.offer().await.map_err(Cause::transfer(peer))? {
        return Ok(());
    }
    let image = inspect.get("Image").and_then(Value::as_str).unwrap_or_default();
    let total = inspect.get(BYTES).and_then(Value::as_u64);
    let mut archive = std::pin::pin!(inner.docker.save_image(image));
    let mut bytes = 0;
    loop {
        match tokio::time::timeout(ALIVE, archive.next()).await {
            Ok(Some(chunk)) => {
                let chunk = chunk.map_err(Cause::docker("save the image"))?;
                outgoing.archive(&chunk).await.map_err(Cause::transfer(peer))?;
                bytes += chunk.len() as u64;
                reporter.tell(Stage::Sync, bytes, total.map(|total| total.max(bytes)));
            }
            Ok(None) => break,
            Err(_) => outgoing.alive().await.map_err(Cause::transfer(peer))?,
        }
    }
    outgoing.ask().await.map_err(Cause::transfer(peer))
}

/// Destination: loads the archive, makes sure that it is the very image, and creates the container from it.
pub(super) async fn take_in(
    inner: &Arc<Inner>,
    command: &Command,
    specification: &Specification,
    archive: mpsc::Receiver<Vec<u8>>,
) -> Result<(), Cause> {
    inner.docker.load_image(archive).await.map_err(Cause::docker("load the image"))?;
    let here = inner.docker.image_id(&specification.image).await.map_err(Cause::docker("look for the image"))?;
    if here.is_none() {
        let message = format!(
            "Image {} is another one after it was loaded on {}: the nodes' Dockers store images in different ways. \
             Load it there by hand.",
            specification.image, inner.config.node
        );
        return Err(Cause::new(FailureKind::Refused, message));
    }
    let named = specification.inspect.pointer("/Config/Image").and_then(Value::as_str).unwrap_or_default();
    if let Some((repository, tag)) = name_and_tag(named)
        && inner.docker.image_id(named).await.map_err(Cause::docker("look for the image"))?.is_none()
    {
        let named = inner.docker.tag_image(&specification.image, repository, tag).await;
        named.map_err(Cause::docker("name the image"))?;
    }
    let image = reserve::image_here(inner, specification).await?;
    let image = image.ok_or_else(|| Cause::gone("The image was removed as soon as it was there."))?;
    reserve::place(inner, command, specification, &image).await.map(drop)
}

/// `repository:tag`; `None` for an id or a digest, which are no names.
fn name_and_tag(named: &str) -> Option<(&str, &str)> {
    if named.is_empty() || named.contains('@') || named.starts_with("sha256:") {
        return None;
    }
    match named.rsplit_once(':') {
        // A colon before a slash belongs to a registry's port.
        Some((repository, tag)) if !tag.contains('/') => Some((repository, tag)),
        _ => Some((named, "latest")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_ids() {
        assert_eq!(name_and_tag("fog/x:1"), Some(("fog/x", "1")));
        assert_eq!(name_and_tag("host:5000/x"), Some(("host:5000/x", "latest")));
        assert_eq!(name_and_tag("x@sha256:00"), None);
        assert_eq!(name_and_tag("sha256:00"), None);
    }
}
