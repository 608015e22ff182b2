//! The highest epoch seen of every workload.
//!
//! An epoch ends with the commit. A command that carries an older one comes from the past: an
//! orchestrator that was restored from a backup, or a message that was long on its way.
//!
//! One command of the past is welcome: to remove the copy of a migration that was rolled back while this node could not be
//! reached. The workload may have moved on meanwhile, by a later migration's commit, and this node may have heard of that.
//! An epoch belongs to one commit; whose order brought it here first tells whose. If that was another migration, the one that
//! is to be abandoned was never committed. If it was its own, its copy may be the only one.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::journal::write_durably;

/// Refuses epochs that are over. Durable.
#[derive(Debug)]
pub(super) struct Fence {
    file: PathBuf,
    highest: BTreeMap<String, Seen>,
}

/// The highest epoch of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Seen {
    /// With the migration whose order brought it here.
    By { epoch: u64, migration: Uuid },
    /// Written before that was kept.
    Alone(u64),
}

impl Seen {
    fn epoch(self) -> u64 {
        match self {
            Seen::By { epoch, .. } | Seen::Alone(epoch) => epoch,
        }
    }
}

impl Fence {
    /// Reads the file; none means that nothing was seen yet.
    pub(super) fn open(file: &Path) -> io::Result<Fence> {
        let highest = match std::fs::read(file) {
            Ok(content) => serde_json::from_slice(&content)
                .map_err(|error| io::Error::other(format!("{} is damaged: {error}", file.display())))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        Ok(Fence { file: file.to_owned(), highest })
    }

    /// Lets the epoch pass and remembers it, or returns the higher one that was seen before. `abandons`: the order is to
    /// remove a copy that was never let run.
    pub(super) fn pass(
        &mut self,
        workload: &str,
        migration: Uuid,
        epoch: u64,
        abandons: bool,
    ) -> io::Result<Result<(), u64>> {
        match self.highest.get(workload) {
            Some(Seen::By { epoch: seen, migration: by }) if *seen > epoch && abandons && *by != migration => {
                Ok(Ok(()))
            }
            Some(seen) if seen.epoch() > epoch => Ok(Err(seen.epoch())),
            Some(seen) if seen.epoch() == epoch => Ok(Ok(())),
            _ => {
                let mut highest = self.highest.clone();
                highest.insert(workload.to_owned(), Seen::By { epoch, migration });
                write_durably(&self.file, &serde_json::to_vec_pretty(&highest)?)?;
                self.highest = highest;
                Ok(Ok(()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(2);

    #[test]
    fn epochs_only_rise_and_survive_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("fence.json");
        let mut fence = Fence::open(&file).expect("open");
        assert_eq!(fence.pass("web", ONE, 4, false).expect("io"), Ok(()));
        assert_eq!(fence.pass("web", OTHER, 4, false).expect("io"), Ok(()));
        assert_eq!(fence.pass("web", ONE, 3, false).expect("io"), Err(4));
        assert_eq!(fence.pass("db", ONE, 1, false).expect("io"), Ok(()));
        let mut fence = Fence::open(&file).expect("open again");
        assert_eq!(fence.pass("web", ONE, 3, false).expect("io"), Err(4));
        assert_eq!(fence.pass("web", ONE, 5, false).expect("io"), Ok(()));
    }

    /// The simulation found it: the copy of a rolled-back migration stayed for ever on a node that had heard of a later commit.
    #[test]
    fn what_was_never_committed_may_be_removed_late() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("fence.json");
        let mut fence = Fence::open(&file).expect("open");
        assert_eq!(fence.pass("web", ONE, 1, false).expect("io"), Ok(()));
        assert_eq!(fence.pass("web", OTHER, 2, false).expect("io"), Ok(()));
        let mut fence = Fence::open(&file).expect("open again");
        assert_eq!(fence.pass("web", ONE, 1, true).expect("io"), Ok(()));
        assert_eq!(fence.pass("web", ONE, 1, false).expect("io"), Err(2), "nothing else may");
        assert_eq!(fence.pass("web", OTHER, 1, true).expect("io"), Err(2), "it was committed");
    }

    #[test]
    fn a_file_of_an_earlier_version_is_understood() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("fence.json");
        std::fs::write(&file, r#"{"web": 4}"#).expect("write");
        let mut fence = Fence::open(&file).expect("open");
        assert_eq!(fence.pass("web", ONE, 3, true).expect("io"), Err(4));
        assert_eq!(fence.pass("web", ONE, 5, false).expect("io"), Ok(()));
    }

    #[test]
    fn a_damaged_file_is_not_ignored() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("fence.json");
        std::fs::write(&file, "[").expect("write");
        assert!(Fence::open(&file).is_err());
    }
}
