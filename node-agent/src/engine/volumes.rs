//! Which of a container's mounts are volumes that move with it.
//!
//! A named volume moves: it is made at the destination, filled, and removed from the source once the container runs
//! there. Nothing that Fogshift did not make is ever overwritten: a volume of that name that exists at the destination
//! is a reason to refuse, and a copy is removed only from a node that another node has the volume of.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use fog_api::agent::{Command, Role};
use serde_json::{Value, json};

use super::Inner;
use super::failure::Cause;

/// The name of the tree that is the container's own root; volumes are called by their place.
pub(super) const LAYER: &str = "";

/// Where `inspect` notes the volumes to make. Docker does not know this field.
pub(super) const VOLUMES: &str = "FogshiftVolumes";

/// Where `inspect` notes how many bytes of files there are to move. Docker does not know this field.
pub(super) const BYTES: &str = "FogshiftFileBytes";

/// Docker's label of a volume that has no name of its own.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

fn mounts(inspect: &Value) -> impl Iterator<Item = &Value> {
    let mounts = inspect.get("Mounts").and_then(Value::as_array).into_iter().flatten();
    mounts.filter(|mount| word(mount, "Type") == "volume")
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The folder of every volume, by the place where it is mounted.
pub(super) fn folders(inspect: &Value) -> HashMap<String, PathBuf> {
    mounts(inspect).map(|mount| (word(mount, "Destination").to_owned(), word(mount, "Source").into())).collect()
}

/// Those whose content is copied; `inspect` has noted which are shared instead.
pub(super) fn copied(inspect: &Value) -> Vec<(String, PathBuf)> {
    let noted = inspect.get(VOLUMES).and_then(Value::as_array);
    let shared: Vec<&str> = noted
        .into_iter()
        .flatten()
        .filter(|volume| volume.get("Shared") == Some(&json!(true)))
        .map(|volume| word(volume, "Name"))
        .collect();
    let mut folders: Vec<_> = mounts(inspect)
        .filter(|mount| !shared.contains(&word(mount, "Name")))
        .map(|mount| (word(mount, "Destination").to_owned(), PathBuf::from(word(mount, "Source"))))
        .collect();
    folders.sort();
    folders
}

/// Names of those that end here when the container has moved; anonymous ones end with their container.
pub(super) fn moving_names(inspect: &Value) -> Vec<String> {
    let noted = inspect.get(VOLUMES).and_then(Value::as_array).into_iter().flatten();
    let moving = noted.filter(|volume| {
        volume.get("Shared") == Some(&json!(false))
            && volume.pointer("/Labels").is_none_or(|labels| labels.get(ANONYMOUS).is_none())
    });
    moving.map(|volume| word(volume, "Name").to_owned()).collect()
}

/// Source: notes the volumes in `inspect`, and returns what stands in the way.
pub(super) async fn note(inner: &Inner, workload: &str, inspect: &mut Value) -> Result<Vec<String>, Cause> {
    let mut obstacles = Vec::new();
    let mut noted = Vec::new();
    let mut names: Vec<String> = mounts(inspect).map(|mount| word(mount, "Name").to_owned()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let volume = inner.docker.volume(&name).await.map_err(Cause::docker("inspect a volume"))?;
        let Some(volume) = volume else {
            obstacles.push(format!("The volume {name} is gone."));
            continue;
        };
        let options = volume.get("Options").and_then(Value::as_object).cloned().unwrap_or_default();
        let shared = is_shared(&volume);
        if word(&volume, "Driver") != LOCAL && !shared {
            obstacles.push(format!(
                "The volume {name} belongs to the driver {}, which does not say that all nodes share its volumes (scope \
                 global); only volumes of the local driver are moved.",
                word(&volume, "Driver")
            ));
        } else if !options.is_empty() && !shared {
            obstacles.push(format!(
                "The volume {name} has options of its own ({}); only plain volumes are moved, and shared file systems \
                 (NFS, CIFS and the like) mounted again.",
                options.keys().cloned().collect::<Vec<_>>().join(", ")
            ));
        }
        let users = inner.docker.containers_with_volume(&name).await.map_err(Cause::docker("list containers"))?;
        for user in users.iter().filter(|user| *user != workload && !shared) {
            obstacles.push(format!("The volume {name} is used by the container {user}, too; it cannot move alone."));
        }
        noted.push(json!({
            "Name": name, "Labels": volume.get("Labels"), "Options": options, "Shared": shared,
            "Driver": word(&volume, "Driver"),
        }));
    }
    if has_subpath(inspect) {
        obstacles.push("Only a part of a volume is mounted (volume-subpath); only whole volumes are moved.".into());
    }
    inspect[VOLUMES] = Value::Array(noted);
    Ok(obstacles)
}

/// Docker's own driver, which keeps volumes on its node.
const LOCAL: &str = "local";

/// File systems over the network that the local driver mounts: every node sees the same files.
const SHARED: &[&str] =
    &["nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "fuse.glusterfs", "fuse.sshfs", "lustre", "9p"];

/// Whether every node has the same files under it: a file system of the network, or a driver that says so.
fn is_shared(volume: &Value) -> bool {
    let kind = volume.pointer("/Options/type").and_then(Value::as_str).unwrap_or_default();
    match word(volume, "Driver") {
        LOCAL => SHARED.contains(&kind),
        _ => word(volume, "Scope") == "global",
    }
}

/// The driver in a note; notes of agents before this one have none.
fn driver_of(noted: &Value) -> &str {
    noted.get("Driver").and_then(Value::as_str).unwrap_or(LOCAL)
}

fn has_subpath(inspect: &Value) -> bool {
    let mounts = inspect.pointer("/HostConfig/Mounts").and_then(Value::as_array).into_iter().flatten();
    mounts.into_iter().any(|mount| {
        mount.pointer("/VolumeOptions/Subpath").and_then(Value::as_str).is_some_and(|path| !path.is_empty())
    })
}

fn wanted(inspect: &Value) -> impl Iterator<Item = &Value> {
    let noted = inspect.get(VOLUMES).and_then(Value::as_array).into_iter().flatten();
    noted.filter(|volume| volume.pointer("/Labels").is_none_or(|labels| labels.get(ANONYMOUS).is_none()))
}

/// Destination: what stands in the way of making the volumes here.
pub(super) async fn obstacles(inner: &Inner, inspect: &Value) -> Result<Vec<String>, Cause> {
    let node = &inner.config.node;
    let mut found = Vec::new();
    for volume in wanted(inspect) {
        let name = word(volume, "Name");
        let there = inner.docker.volume(name).await.map_err(Cause::docker("look for its volumes"))?;
        // Another driver's volume is never made here: taking it back might remove what all nodes share.
        if driver_of(volume) != LOCAL {
            if there.is_none_or(|there| word(&there, "Driver") != driver_of(volume)) {
                let driver = driver_of(volume);
                found.push(format!(
                    "The shared volume {name} of the driver {driver} is not on {node}; make it known there."
                ));
            }
            continue;
        }
        let Some(there) = there else { continue };
        let same = there.get("Options").and_then(Value::as_object).cloned().unwrap_or_default();
        if volume.get("Shared") == Some(&json!(true)) && Some(&Value::Object(same)) == volume.get("Options") {
            continue;
        }
        let users = inner.docker.containers_with_volume(name).await.map_err(Cause::docker("list containers"))?;
        let of = users.first().map_or(String::new(), |user| format!(" and is used by the container {user}"));
        found.push(format!(
            "A volume {name} that is not this container's exists on {node}{of}; rename or remove it there."
        ));
    }
    Ok(found)
}

/// Destination: makes them. Each is in the journal before it is there.
pub(super) async fn create(inner: &Arc<Inner>, command: &Command, inspect: &Value) -> Result<(), Cause> {
    for volume in wanted(inspect) {
        let name = word(volume, "Name").to_owned();
        if inner.docker.volume(&name).await.map_err(Cause::docker("look for its volumes"))?.is_some() {
            continue;
        }
        if driver_of(volume) != LOCAL {
            return Err(Cause::refused(format!("The shared volume {name} is gone.")));
        }
        let noted = name.clone();
        inner.note(command, Role::Destination, move |record| record.volumes.push(noted)).await?;
        let empty = json!({});
        let (labels, options) = (volume.get("Labels"), volume.get("Options"));
        let labels = labels.filter(|labels| labels.is_object()).unwrap_or(&empty);
        let made = inner.docker.create_volume(&name, labels, options.unwrap_or(&empty)).await;
        made.map_err(Cause::docker("create a volume"))?;
    }
    Ok(())
}

/// Removes volumes of which this node need not keep a copy. One that a container has got meanwhile stays.
pub(super) async fn remove(inner: &Inner, names: &[String]) -> Result<(), Cause> {
    for name in names {
        match inner.docker.remove_volume(name).await {
            Ok(()) => {}
            Err(crate::runtime::DockerError::Said { status: 409, message }) => {
                tracing::warn!(
                    volume = name,
                    message,
                    "the volume was moved, but another container has got it: it stays"
                );
            }
            Err(error) => return Err(Cause::docker("remove a volume")(error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_file_systems_and_drivers_are_recognised() {
        let local =
            |kind: &str| json!({"Driver": "local", "Scope": "local", "Options": {"type": kind, "device": ":/x"}});
        for kind in ["nfs", "nfs4", "cifs", "ceph"] {
            assert!(is_shared(&local(kind)), "{kind}");
        }
        assert!(!is_shared(&local("tmpfs")) && !is_shared(&local("ext4")));
        assert!(!is_shared(&json!({"Driver": "local", "Scope": "local", "Options": null})));
        assert!(is_shared(&json!({"Driver": "rexray", "Scope": "global"})));
        assert!(!is_shared(&json!({"Driver": "own", "Scope": "local", "Options": {"type": "nfs"}})));
        assert_eq!((driver_of(&json!({"Name": "x"})), driver_of(&json!({"Driver": "rexray"}))), (LOCAL, "rexray"));
    }
}
