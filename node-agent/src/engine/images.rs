//! The folders that hold memory images, and whether there is room in them.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::failure::Cause;
use super::{Inner, blocking};
use crate::journal::create_private_folder;

/// CRIU's images besides the memory itself: rarely more than a few hundred kilobytes.
const OVERHEAD_BYTES: u64 = 16 << 20;

/// `f_type` of tmpfs and ramfs.
const MEMORY_FILE_SYSTEMS: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// One migration's folders.
#[derive(Debug, Clone)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn of(inner: &Inner, migration: Uuid) -> Folder {
        Folder(inner.config.images_dir.join(migration.to_string()))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// CRIU's images.
    pub(super) fn images(&self) -> PathBuf {
        self.0.join(crate::transfer::Kind::Image.folder())
    }

    /// CRIU's logs.
    pub(super) fn work(&self) -> PathBuf {
        self.0.join("work")
    }

    /// Makes the folders anew, empty.
    pub(super) async fn create(&self) -> Result<(), Cause> {
        self.remove().await?;
        let folder = self.clone();
        let made = blocking(move || {
            create_private_folder(&folder.images())?;
            create_private_folder(&folder.work())
        });
        made.await?.map_err(|error| Cause::node(&format!("{} could not be created", self.0.display()), &error))
    }

    /// Removes everything. Nothing there is fine.
    pub(super) async fn remove(&self) -> Result<(), Cause> {
        remove_folder(&self.0).await
    }
}

/// Removes a folder with all that is in it. Nothing there is fine.
pub(super) async fn remove_folder(path: &Path) -> Result<(), Cause> {
    let doomed = path.to_owned();
    blocking(move || remove_tree(&doomed))
        .await?
        .map_err(|error| Cause::node(&format!("{} could not be removed", path.display()), &error))
}

/// Takes off first what is mounted there: a CRIU that was killed leaves a mount of the cgroups behind, and removing
/// must not walk into that. Blocking.
pub(super) fn remove_tree(path: &Path) -> std::io::Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    for mount in mounts_below(&mounts, path).into_iter().rev() {
        rustix::mount::unmount(&mount, rustix::mount::UnmountFlags::DETACH)?;
    }
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Where something is mounted inside a folder, outer mounts first.
fn mounts_below(mountinfo: &str, folder: &Path) -> Vec<PathBuf> {
    let places = mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    places.filter(|place| place.starts_with(folder)).collect()
}

/// Whether images of a container that uses `memory_bytes` may be kept here; `copies` is how often the memory is
/// held at once. Returns the sentence that says why not.
pub(super) fn room(inner: &Inner, memory_bytes: u64, copies: u64) -> Result<(), String> {
    let (folder, node) = (&inner.config.images_dir, &inner.config.node);
    let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
    let place =
        rustix::fs::statfs(folder).map_err(|error| format!("{} cannot be looked at: {error}.", folder.display()))?;
    let kind = place.f_type as u64;
    if !MEMORY_FILE_SYSTEMS.contains(&kind) {
        return Err(format!(
            "{} on {node} is not on tmpfs; memory images must not touch a disk. Set images_dir to a folder below /run.",
            folder.display()
        ));
    }
    let needed = memory_bytes + OVERHEAD_BYTES;
    let block = u64::try_from(place.f_bsize).unwrap_or(4096);
    let free = place.f_bavail.saturating_mul(block);
    if free < needed {
        return Err(format!(
            "The images need {} MiB, but {} on {node} has {} MiB free; make that tmpfs larger.",
            mebibytes(needed),
            folder.display(),
            mebibytes(free)
        ));
    }
    let available = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| available_bytes(&text));
    let needed = memory_bytes * copies + OVERHEAD_BYTES;
    match available {
        Some(available) if available < needed => Err(format!(
            "{node} has {} MiB of memory available and {} MiB are needed; free some first.",
            mebibytes(available),
            mebibytes(needed)
        )),
        _ => Ok(()),
    }
}

fn available_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// The files of a folder with their lengths.
pub(super) fn list(folder: &Path) -> std::io::Result<Vec<(String, PathBuf, u64)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_file() {
            files.push((entry.file_name().to_string_lossy().into_owned(), entry.path(), metadata.len()));
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_in_a_folder_are_found() {
        let mountinfo = "1 0 0:1 / /run rw - tmpfs tmpfs rw\n2 1 0:2 / /run/images/a/work/yard rw - tmpfs n rw\n\
                         3 2 0:3 / /run/images/a/work/yard/cpu rw - cgroup c rw\n4 1 0:4 / /run/images/ab rw - x x rw\n";
        let found = mounts_below(mountinfo, Path::new("/run/images/a"));
        assert_eq!(found, [PathBuf::from("/run/images/a/work/yard"), PathBuf::from("/run/images/a/work/yard/cpu")]);
    }

    #[test]
    fn available_memory_is_read() {
        assert_eq!(available_bytes("MemTotal: 9 kB\nMemAvailable:   1024 kB\n"), Some(1 << 20));
        assert_eq!(available_bytes("MemTotal: 9 kB\n"), None);
    }
}
