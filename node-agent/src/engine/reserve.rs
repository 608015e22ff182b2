//! Destination: create the container, not started, and expect the stream.

use std::path::PathBuf;
use std::sync::Arc;

use fog_api::agent::{Command, Examined, Report, Role, Specification, Step, Ticket};
use fog_api::migration::Connections;
use fog_api::preflight::Finding;
use serde_json::{Value, json};

use super::address::{self, Judged};
use super::failure::{Cause, StepResult};
use super::images::{self, Folder};
use super::inspect::{id_of, refusal};
use super::{Inner, bind_mounts, blocking, files_in, image, peer, volumes};
use crate::journal::create_private_folder;
use crate::runtime::{port_is_free, specification};
use crate::transfer::TicketKey;

/// The annotation that marks a container as created by a migration.
pub(super) const MARK: &str = "io.fogshift.migration";

pub(super) async fn reserve(
    inner: &Arc<Inner>,
    command: &Command,
    specification: &Specification,
    ticket: &Ticket,
    source: &str,
) -> StepResult {
    let secret = ticket;
    let ticket = TicketKey::decode(ticket)
        .ok_or_else(|| Cause::refused("The ticket is not 32 bytes in hexadecimal; the orchestrator made a mistake."))?;
    let Looked { findings, image, address } = look(inner, specification).await?;
    if let Some(reasons) = refusal(&findings) {
        let (node, name) = (&inner.config.node, &specification.name);
        return Err(Cause::refused(format!("{node} cannot take {name}. {reasons}")));
    }
    let mut specification = specification.clone();
    specification.inspect[specification::FOLLOWING] = json!(address.following);
    let specification = &specification;
    let policy = specification::restart_policy(&specification.inspect);
    let epoch = command.epoch;
    inner
        .note(command, Role::Destination, move |record| {
            record.begun.push((Step::Reserve, epoch));
            record.restart_policy = Some(policy);
        })
        .await?;

    let folder = Folder::of(inner, command.migration);
    folder.create().await?;
    peer::remember(inner, command.migration, secret, None).await;
    inner.arrivals.expect(command.migration, ticket, folder.path(), source);
    inner.memory.expect(inner, command.migration, &folder)?;
    inner.files.begin(inner, command, specification, image.is_none());
    let container = match image {
        Some(image) => Some(place(inner, command, specification, &image).await?),
        // The source sends it first of all; the container is created then.
        None => None,
    };
    Ok(Report { container, connections: Some(address.connections), ..Report::default() })
}

/// Creates the container and its volumes.
pub(super) async fn place(
    inner: &Arc<Inner>,
    command: &Command,
    specification: &Specification,
    image: &str,
) -> Result<String, Cause> {
    volumes::create(inner, command, &specification.inspect).await?;
    bind_mounts::create(inner, command, &specification.inspect).await?;
    let mut body = specification::create_body(&specification.inspect, image);
    mark(&mut body, command);
    let created = inner.docker.create(&specification.name, &body).await;
    let container = created.map_err(Cause::docker("create the container"))?;
    let id = container.clone();
    inner.note(command, Role::Destination, move |record| record.container = Some(id)).await?;

    // From here on fog-runc asks us before it creates this container's first process.
    let restore = restore_folder(inner, &container);
    let made = blocking({
        let restore = restore.clone();
        move || create_private_folder(&restore)
    });
    made.await?.map_err(|error| Cause::node(&format!("{} could not be created", restore.display()), &error))?;
    let here = inner.docker.inspect(&container).await.map_err(Cause::docker("inspect the container"))?;
    let mut folders = here.as_ref().map(volumes::folders).unwrap_or_default();
    folders.extend(here.as_ref().map(bind_mounts::folders).unwrap_or_default());
    inner.files.placed(command.migration, &container, folders);
    Ok(container)
}

/// fog-runc's folder for a container.
pub(super) fn restore_folder(inner: &Inner, container: &str) -> PathBuf {
    inner.config.run_dir.join("restore").join(container)
}

fn mark(body: &mut Value, command: &Command) {
    if let Some(host) = body.get_mut("HostConfig").and_then(Value::as_object_mut) {
        let annotations = host.entry("Annotations").or_insert(Value::Null);
        if !annotations.is_object() {
            *annotations = json!({});
        }
        annotations[MARK] = json!(command.migration);
    }
}

/// Preflight, at the destination: what `reserve` would say, without doing it.
pub(super) async fn preflight(inner: &Arc<Inner>, specification: &Specification) -> Result<Examined, Cause> {
    let Looked { mut findings, image, address } = look(inner, specification).await?;
    if image.is_none() {
        let message = format!("The image is not on {}; it will be brought along.", inner.config.node);
        findings.push(Finding::warning("image", message));
    }
    let Connections { open, kept, reason } = &address.connections;
    if !kept && *open > 0 {
        let message = format!("{open} TCP connection(s) will be closed when it moves. {reason}");
        findings.push(Finding::warning("connections", message));
    }
    Ok(Examined { findings, connections: Some(address.connections), ..Examined::default() })
}

/// What this node says to a container that may come.
struct Looked {
    findings: Vec<Finding>,
    /// The image's name here; `None`: it has to come.
    image: Option<String>,
    address: Judged,
}

async fn look(inner: &Arc<Inner>, specification: &Specification) -> Result<Looked, Cause> {
    let (docker, node, name) = (&inner.docker, &inner.config.node, &specification.name);
    let inspect = &specification.inspect;
    let address = address::judge(inner, inspect).await?;
    let mut findings = Vec::new();
    let mut found = |check: &str, message: String| findings.push(Finding::blocker(check, message));

    for message in &address.obstacles {
        found("address", message.clone());
    }
    if let Some(other) = docker.inspect(name).await.map_err(Cause::docker("look for the name"))? {
        let id: String = id_of(&other)?.chars().take(12).collect();
        let message = format!("The name {name} is taken on {node} by container {id}; remove or rename that one.");
        found("name", message);
    }
    let image = image_here(inner, specification).await?;
    for network in specification::networks(inspect) {
        if docker.network(&network).await.map_err(Cause::docker("look for its networks"))?.is_none() {
            found("network", format!("The network {network} is not on {node}; create it there."));
        }
    }
    let wanted = specification::fixed_ports(inspect);
    if !wanted.is_empty() {
        let published = docker.published_ports().await.map_err(Cause::docker("list published ports"))?;
        for (address, port, protocol) in wanted {
            let holder = published.iter().find(|(other, kind, _)| *other == port && *kind == protocol);
            if let Some((_, _, holder)) = holder {
                found("port", format!("Port {port}/{protocol} is taken on {node} by container {holder}."));
            } else if !port_is_free(&address, port, &protocol) {
                found("port", format!("Port {port}/{protocol} is taken on {node} by another process."));
            }
        }
    }
    let memory_bytes = inspect.get(specification::MEMORY).and_then(Value::as_u64).unwrap_or_default();
    if let Err(message) = images::room(inner, memory_bytes, 2) {
        found("memory", message);
    }
    let noted = |key: &str| inspect.get(key).and_then(Value::as_u64).unwrap_or_default();
    // Docker keeps the archive until it has unpacked it.
    let image_bytes = if image.is_none() { noted(image::BYTES) * 2 } else { 0 };
    if let Some(message) = files_in::room(inner, noted(volumes::BYTES) + image_bytes).await? {
        found("disk", message);
    }
    for message in volumes::obstacles(inner, inspect).await? {
        found("volumes", message);
    }
    for message in bind_mounts::at_destination(inner, inspect).await? {
        found("mounts", message);
    }
    Ok(Looked { findings, image, address })
}

/// How to call the image here: by the name it was created with, if that means the same image, else by its id.
pub(super) async fn image_here(inner: &Arc<Inner>, specification: &Specification) -> Result<Option<String>, Cause> {
    let look =
        |image: String| async move { inner.docker.image_id(&image).await.map_err(Cause::docker("look for the image")) };
    let named = specification.inspect.pointer("/Config/Image").and_then(Value::as_str).unwrap_or_default();
    if !named.is_empty() && look(named.to_owned()).await?.as_ref() == Some(&specification.image) {
        return Ok(Some(named.to_owned()));
    }
    Ok(look(specification.image.clone()).await?.map(|_| specification.image.clone()))
}
