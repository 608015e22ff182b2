//! Destination: create the container, not started, and expect the stream.

use std::path::PathBuf;
use std::sync::Arc;

use fog_api::agent::{Command, Report, Role, Specification, Step, Ticket};
use serde_json::{Value, json};

use super::failure::{Cause, StepResult};
use super::images::{self, Folder};
use super::inspect::id_of;
use super::{Inner, address, blocking, files_in, image, volumes};
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
    let ticket = TicketKey::decode(ticket)
        .ok_or_else(|| Cause::refused("The ticket is not 32 bytes in hexadecimal; the orchestrator made a mistake."))?;
    let address = address::judge(inner, &specification.inspect).await?;
    let image = admissible(inner, specification, address.obstacles).await?;
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
    inner.arrivals.expect(command.migration, ticket, folder.path(), source);
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
    let folders = here.as_ref().map(volumes::folders).unwrap_or_default();
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

/// Refuses what could not be created and restored here. Returns the name of the image here; `None`: it has to come.
async fn admissible(
    inner: &Arc<Inner>,
    specification: &Specification,
    mut found: Vec<String>,
) -> Result<Option<String>, Cause> {
    let (docker, node, name) = (&inner.docker, &inner.config.node, &specification.name);
    let inspect = &specification.inspect;

    if let Some(other) = docker.inspect(name).await.map_err(Cause::docker("look for the name"))? {
        let id: String = id_of(&other)?.chars().take(12).collect();
        found.push(format!("The name {name} is taken on {node} by container {id}; remove or rename that one."));
    }
    let image = image_here(inner, specification).await?;
    for network in specification::networks(inspect) {
        if docker.network(&network).await.map_err(Cause::docker("look for its networks"))?.is_none() {
            found.push(format!("The network {network} is not on {node}; create it there."));
        }
    }
    let wanted = specification::fixed_ports(inspect);
    if !wanted.is_empty() {
        let published = docker.published_ports().await.map_err(Cause::docker("list published ports"))?;
        for (address, port, protocol) in wanted {
            let holder = published.iter().find(|(other, kind, _)| *other == port && *kind == protocol);
            if let Some((_, _, holder)) = holder {
                found.push(format!("Port {port}/{protocol} is taken on {node} by container {holder}."));
            } else if !port_is_free(&address, port, &protocol) {
                found.push(format!("Port {port}/{protocol} is taken on {node} by another process."));
            }
        }
    }
    let memory_bytes = inspect.get(specification::MEMORY).and_then(Value::as_u64).unwrap_or_default();
    found.extend(images::room(inner, memory_bytes, 2).err());
    let noted = |key: &str| inspect.get(key).and_then(Value::as_u64).unwrap_or_default();
    // Docker keeps the archive until it has unpacked it.
    let image_bytes = if image.is_none() { noted(image::BYTES) * 2 } else { 0 };
    found.extend(files_in::room(inner, noted(volumes::BYTES) + image_bytes).await?);
    found.extend(volumes::obstacles(inner, inspect).await?);
    if found.is_empty() {
        Ok(image)
    } else {
        Err(Cause::refused(format!("{node} cannot take {name}. {}", found.join(" "))))
    }
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
