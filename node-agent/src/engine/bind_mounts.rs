//! Folders of the host that are mounted in a container and move with it, where the policy lets them.
//!
//! The folder keeps its path. At the destination that path must be free, or an empty folder: nothing that is there is ever
//! overwritten. Once the container runs there, the source's folder is set aside beside its place (`.NAME.fogshift-moved`)
//! and not removed, for it belongs to the host; when the container comes back, that older copy goes.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fog_api::agent::{Command, Role};
use serde_json::Value;

use super::failure::Cause;
use super::{Inner, blocking};

fn mounts(inspect: &Value) -> impl Iterator<Item = &Value> {
    let mounts = inspect.get("Mounts").and_then(Value::as_array).into_iter().flatten();
    mounts.filter(|mount| word(mount, "Type") == "bind")
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The host's folder of each, by the place where it is mounted.
pub(super) fn folders(inspect: &Value) -> Vec<(String, PathBuf)> {
    mounts(inspect).map(|mount| (word(mount, "Destination").to_owned(), word(mount, "Source").into())).collect()
}

/// Only the paths on the host.
pub(super) fn paths(inspect: &Value) -> Vec<PathBuf> {
    folders(inspect).into_iter().map(|(_, path)| path).collect()
}

/// Source: what stands in the way. `allowed`: the folders that the policy names.
pub(super) async fn at_source(
    inner: &Inner,
    workload: &str,
    inspect: &Value,
    allowed: &[String],
) -> Result<Vec<String>, Cause> {
    let mut found = Vec::new();
    let mut looked_at: Vec<PathBuf> = Vec::new();
    for mount in mounts(inspect) {
        let (source, place) = (word(mount, "Source"), word(mount, "Destination"));
        let path = PathBuf::from(source);
        if !allowed.iter().any(|allowed| path.starts_with(allowed)) {
            found.push(format!(
                "{source} of the host is mounted at {place}, and the policy's files.bind_mounts does not allow that path; \
                 name it there if nothing but this container writes to it."
            ));
            continue;
        }
        if !matches!(word(mount, "Propagation"), "" | "private" | "rprivate") {
            found.push(format!(
                "{source} is mounted at {place} so that mounts spread; mount it with bind-propagation=rprivate."
            ));
        }
        if let Some(other) = looked_at.iter().find(|other| overlap(&path, other)) {
            found.push(format!(
                "{source} and {} are mounted, and one is in the other; mount only one.",
                other.display()
            ));
        }
        looked_at.push(path);
    }
    if looked_at.is_empty() {
        return Ok(found);
    }
    for path in &looked_at {
        for user in users(inner, path).await?.iter().filter(|user| *user != workload) {
            found.push(format!("{} is used by the container {user}, too; it cannot move alone.", path.display()));
        }
    }
    let unfit = blocking(move || looked_at.iter().filter_map(|path| unfit(path)).collect::<Vec<_>>()).await?;
    found.extend(unfit);
    Ok(found)
}

/// The containers, running or not, that have something of this folder mounted.
async fn users(inner: &Inner, path: &Path) -> Result<Vec<String>, Cause> {
    let bound = inner.docker.bind_mounts().await.map_err(Cause::docker("list containers"))?;
    Ok(bound.into_iter().filter(|(_, other)| overlap(path, other)).map(|(name, _)| name).collect())
}

fn overlap(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// Why a folder cannot move; `None`: it can. Blocking.
fn unfit(path: &Path) -> Option<String> {
    let shown = path.display();
    match std::fs::canonicalize(path) {
        Err(error) => return Some(format!("{shown} cannot be looked at ({error}).")),
        Ok(real) if real != path => {
            return Some(format!("{shown} leads to {} through a link; mount that folder itself.", real.display()));
        }
        Ok(real) if !real.is_dir() => return Some(format!("{shown} is no folder; only folders are moved.")),
        Ok(_) => {}
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounted =
        mounts.lines().filter_map(|line| line.split(' ').nth(4)).find(|at| Path::new(at).starts_with(path))?;
    Some(format!("A file system of its own is mounted at {mounted}; mount a folder in which there is none."))
}

/// Destination: what stands in the way of making the folders here.
pub(super) async fn at_destination(inner: &Inner, inspect: &Value) -> Result<Vec<String>, Cause> {
    let paths = paths(inspect);
    let mut found = Vec::new();
    for path in &paths {
        for user in users(inner, path).await? {
            let node = &inner.config.node;
            found.push(format!("{} on {node} is used by the container {user}; it would not be alone.", path.display()));
        }
    }
    let node = inner.config.node.clone();
    let taken = blocking(move || paths.iter().filter_map(|path| taken(path, &node)).collect::<Vec<_>>()).await?;
    found.extend(taken);
    Ok(found)
}

/// Why a path cannot become the folder of a container that comes; `None`: it can. Blocking.
fn taken(path: &Path, node: &str) -> Option<String> {
    let shown = path.display();
    let there = path.ancestors().find(|ancestor| std::fs::symlink_metadata(ancestor).is_ok())?;
    match std::fs::canonicalize(there) {
        Ok(real) if real == there && real.is_dir() => {}
        _ => {
            return Some(format!(
                "{} on {node} is a link or no folder, so {shown} cannot be made there.",
                there.display()
            ));
        }
    }
    let empty = || std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    (there == path && !empty()).then(|| {
        format!("{shown} exists on {node} and is not empty, and nothing there is overwritten; move it away there.")
    })
}

/// Destination: makes them, empty. Each is in the journal before it is there.
pub(super) async fn create(inner: &Arc<Inner>, command: &Command, inspect: &Value) -> Result<(), Cause> {
    let paths = paths(inspect);
    if paths.is_empty() {
        return Ok(());
    }
    // Time has passed since the first look.
    if let Some(reason) = at_destination(inner, inspect).await?.into_iter().next() {
        return Err(Cause::refused(reason));
    }
    let looked = paths.clone();
    let missing = blocking(move || {
        let mut missing: Vec<PathBuf> = looked
            .iter()
            .flat_map(|path| path.ancestors())
            .filter(|path| std::fs::symlink_metadata(path).is_err())
            .map(Path::to_owned)
            .collect();
        missing.sort();
        missing.dedup();
        missing
    });
    let missing = missing.await?;
    let (filled, made) = (paths, missing.clone());
    inner.note(command, Role::Destination, move |record| (record.folders, record.made) = (filled, made)).await?;
    let created =
        blocking(move || missing.iter().try_for_each(|path| or(std::fs::create_dir(path), ErrorKind::AlreadyExists)));
    created.await?.map_err(|error| Cause::node("The folder of a bind mount could not be made", &error))
}

/// The result, where this kind of failure is none.
fn or(done: io::Result<()>, harmless: ErrorKind) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == harmless => Ok(()),
        done => done,
    }
}

/// Destination, rolling back: takes away what came, and the folders that were made for it.
pub(super) async fn remove(folders: &[PathBuf], made: &[PathBuf]) -> Result<(), Cause> {
    if folders.is_empty() {
        return Ok(());
    }
    let (folders, made) = (folders.to_owned(), made.to_owned());
    let removed = blocking(move || {
        for folder in &folders {
            or(empty(folder), ErrorKind::NotFound)?;
        }
        for folder in made.iter().rev() {
            match std::fs::remove_dir(folder) {
                // What somebody has put beside it stays.
                Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {
                    return Err(error);
                }
                _ => {}
            }
        }
        Ok(())
    });
    removed.await?.map_err(|error| Cause::node("The folder of a bind mount could not be removed", &error))
}

fn empty(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => std::fs::remove_dir_all(entry.path())?,
            false => std::fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

/// Where the folder of a container that has left is kept.
fn aside(folder: &Path) -> Option<PathBuf> {
    let name = folder.file_name()?.to_string_lossy();
    Some(folder.with_file_name(format!(".{name}.fogshift-moved")))
}

/// Source, after the commit: the folder makes room for the container's coming back, and is kept. One that cannot be renamed
/// stays where it is.
pub(super) async fn set_aside(folders: &[PathBuf]) -> Result<(), Cause> {
    each(folders, |folder, aside| {
        if std::fs::symlink_metadata(folder).is_err() {
            return Ok(()); // done before
        }
        or(std::fs::remove_dir_all(aside), ErrorKind::NotFound)?;
        std::fs::rename(folder, aside)
    })
    .await
}

/// Destination, at last: the copy that was kept here since the container left is older than what has come.
pub(super) async fn forget_older(folders: &[PathBuf]) -> Result<(), Cause> {
    each(folders, |_, aside| or(std::fs::remove_dir_all(aside), ErrorKind::NotFound)).await
}

async fn each(folders: &[PathBuf], act: fn(&Path, &Path) -> io::Result<()>) -> Result<(), Cause> {
    if folders.is_empty() {
        return Ok(());
    }
    let folders = folders.to_owned();
    blocking(move || {
        for folder in &folders {
            let Some(aside) = aside(folder) else { continue };
            if let Err(error) = act(folder, &aside) {
                let (folder, aside) = (folder.display(), aside.display());
                tracing::warn!(%folder, %aside, %error, "the folder of a bind mount cannot be put away: it stays");
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_free_or_taken_and_what_was_made_goes_again() {
        let place = tempfile::tempdir().expect("a folder");
        let root = std::fs::canonicalize(place.path()).expect("its path");
        let folder = root.join("srv/data");
        assert_eq!(taken(&folder, "B"), None, "nothing is there");
        std::fs::create_dir_all(&folder).expect("made");
        assert_eq!(taken(&folder, "B"), None, "an empty folder");
        std::fs::write(folder.join("mine"), "x").expect("written");
        assert!(taken(&folder, "B").is_some_and(|reason| reason.contains("not empty")));
        std::os::unix::fs::symlink(&folder, root.join("link")).expect("linked");
        assert!(taken(&root.join("link"), "B").is_some() && taken(&root.join("link/below"), "B").is_some());
        assert!(unfit(&root.join("link")).is_some_and(|reason| reason.contains("link")));
        assert!(unfit(&folder.join("mine")).is_some() && unfit(Path::new("/proc")).is_some());
        assert_eq!(unfit(&folder), None);
    }

    #[tokio::test]
    async fn the_source_s_folder_is_kept_beside_its_place_until_it_comes_back() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = place.path().join("data");
        std::fs::create_dir(&folder).expect("made");
        std::fs::write(folder.join("mine"), "1").expect("written");
        let folders = [folder.clone()];
        set_aside(&folders).await.expect("set aside");
        set_aside(&folders).await.expect("once more");
        let kept = place.path().join(".data.fogshift-moved");
        assert!(!folder.exists() && kept.join("mine").exists());
        std::fs::create_dir_all(folder.join("below")).expect("came back");
        remove(&folders, &[]).await.expect("rolled back");
        assert!(folder.exists() && !folder.join("below").exists() && kept.exists());
        remove(&folders, &folders).await.expect("rolled back");
        assert!(!folder.exists());
        forget_older(&folders).await.expect("forgotten");
        assert!(!kept.exists());
    }
}
