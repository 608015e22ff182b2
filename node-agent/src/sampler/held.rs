//! What a container's files take of the disk: what would travel with it.
//!
//! Counting means looking at every file, so it is done now and then, one container at a time, and rarely where it takes
//! long: at most one part in two hundred of the time is spent on it.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use crate::engine::upper_folder;

/// How old a figure gets, at least.
const LASTS: Duration = Duration::from_secs(300);

/// The pause after counting, as a multiple of what it took.
const REST: u32 = 200;

/// One container's figure.
#[derive(Debug, Clone, Default)]
pub(super) struct Held {
    counted: Arc<Mutex<Counted>>,
}

#[derive(Debug, Default)]
struct Counted {
    bytes: Option<u64>,
    due: Option<Instant>,
    counting: bool,
}

impl Held {
    /// What was counted last. Where that was long ago and nobody counts elsewhere, counting is begun.
    pub(super) fn bytes(&self, init: Option<u32>, volumes: &[PathBuf], one_at_a_time: &Arc<Semaphore>) -> Option<u64> {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let due = counted.due.is_none_or(|due| due <= Instant::now());
        if let (Some(init), true, false) = (init, due, counted.counting)
            && let Ok(turn) = Arc::clone(one_at_a_time).try_acquire_owned()
        {
            counted.counting = true;
            let (kept, volumes) = (Arc::clone(&self.counted), volumes.to_vec());
            tokio::task::spawn_blocking(move || {
                let begin = Instant::now();
                // Who is counted may end meanwhile, or keep its files elsewhere than in an overlay: then nothing is known.
                let bytes = count(init, &volumes).ok();
                let mut counted = kept.lock().unwrap_or_else(PoisonError::into_inner);
                *counted =
                    Counted { bytes, due: Some(Instant::now() + LASTS.max(begin.elapsed() * REST)), counting: false };
                drop(turn);
            });
        }
        counted.bytes
    }
}

fn count(init: u32, volumes: &[PathBuf]) -> io::Result<u64> {
    let mounts = std::fs::read_to_string(format!("/proc/{init}/mountinfo"))?;
    let layer = upper_folder(&mounts).ok_or(io::ErrorKind::NotFound)?;
    let mut bytes = tree(&layer)?;
    for volume in volumes {
        // What is mounted at a volume's place is not on this disk, and may not answer.
        let on_this_disk = volume.parent().map(std::fs::metadata).transpose()?.map(|parent| parent.dev());
        if on_this_disk == Some(std::fs::symlink_metadata(volume)?.dev()) {
            bytes += tree(volume)?;
        }
    }
    Ok(bytes)
}

/// All that is in a folder, itself included, as the disk counts it: holes take nothing, several names of one file take it once.
fn tree(folder: &Path) -> io::Result<u64> {
    let root = std::fs::symlink_metadata(folder)?;
    let (device, mut bytes) = (root.dev(), root.blocks() * 512);
    let mut seen = HashSet::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        // What vanishes meanwhile takes nothing.
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let Ok(found) = entry.metadata() else { continue };
            if found.dev() != device || found.nlink() > 1 && !found.is_dir() && !seen.insert(found.ino()) {
                continue;
            }
            bytes += found.blocks() * 512;
            if found.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_counts_once_and_its_holes_not_at_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let empty = tree(folder.path()).expect("counted");
        std::fs::create_dir(folder.path().join("sub")).expect("made");
        std::fs::write(folder.path().join("sub/full"), vec![1; 1 << 20]).expect("written");
        std::fs::hard_link(folder.path().join("sub/full"), folder.path().join("again")).expect("linked");
        std::os::unix::fs::symlink("/", folder.path().join("elsewhere")).expect("linked");
        std::fs::File::create(folder.path().join("hole")).and_then(|file| file.set_len(1 << 30)).expect("made");
        let bytes = tree(folder.path()).expect("counted") - empty;
        assert!((1 << 20..(1 << 20) + (64 << 10)).contains(&bytes), "{bytes}");
        assert!(tree(Path::new("/no/such/place")).is_err());
    }
}
