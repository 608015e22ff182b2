//! One agent for each state directory: two would answer the same commands with different memories.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

const NAME: &str = "agent.lock";

/// Held for as long as the agent runs. The kernel lets go of it even when the agent is killed.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another agent is at work.
    #[error("another fog-agent{pid} already uses {directory}; stop it first or give this one its own state_dir")]
    Held {
        /// The directory.
        directory: PathBuf,
        /// " (process 123)", where known.
        pid: String,
    },
    /// The directory or the file in it cannot be made.
    #[error("cannot use the state directory {directory}: {source}")]
    Unusable {
        /// The directory.
        directory: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl Lock {
    /// Makes the directory if need be, private to its owner, and takes the lock.
    pub fn take(directory: &Path) -> Result<Self, LockError> {
        let unusable = |source| LockError::Unusable { directory: directory.to_owned(), source };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(unusable)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(directory.join(NAME))
            .map_err(unusable)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            let pid = if holder.trim().is_empty() { String::new() } else { format!(" (process {})", holder.trim()) };
            return Err(LockError::Held { directory: directory.to_owned(), pid });
        }
        let note = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        note(&mut file).map_err(unusable)?;
        Ok(Self { _file: file })
    }

    /// Whether an agent holds the lock at this moment.
    pub fn is_held(directory: &Path) -> bool {
        File::open(directory.join(NAME))
            .is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_err())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_agent_is_refused_by_name() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("state");
        assert!(!Lock::is_held(&path));
        let first = Lock::take(&path).expect("free");
        assert!(Lock::is_held(&path));
        let refusal = Lock::take(&path).expect_err("held").to_string();
        assert!(refusal.contains(&format!("process {}", std::process::id())), "{refusal}");
        drop(first);
        assert!(!Lock::is_held(&path));
        Lock::take(&path).expect("free again");
    }
}
