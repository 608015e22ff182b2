//! The highest epoch seen of every workload.
//!
//! An epoch ends with the commit. A command that carries an older one comes from the past: an
//! orchestrator that was restored from a backup, or a message that was long on its way.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::journal::write_durably;

/// Refuses epochs that are over. Durable.
#[derive(Debug)]
pub(super) struct Fence {
    file: PathBuf,
    highest: BTreeMap<String, u64>,
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

    /// Lets the epoch pass and remembers it, or returns the higher one that was seen before.
    pub(super) fn pass(&mut self, workload: &str, epoch: u64) -> io::Result<Result<(), u64>> {
        match self.highest.get(workload) {
            Some(&seen) if seen > epoch => Ok(Err(seen)),
            Some(&seen) if seen == epoch => Ok(Ok(())),
            _ => {
                let mut highest = self.highest.clone();
                highest.insert(workload.to_owned(), epoch);
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

    #[test]
    fn epochs_only_rise_and_survive_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("fence.json");
        let mut fence = Fence::open(&file).expect("open");
        assert_eq!(fence.pass("web", 4).expect("io"), Ok(()));
        assert_eq!(fence.pass("web", 4).expect("io"), Ok(()));
        assert_eq!(fence.pass("web", 3).expect("io"), Err(4));
        assert_eq!(fence.pass("db", 1).expect("io"), Ok(()));
        let mut fence = Fence::open(&file).expect("open again");
        assert_eq!(fence.pass("web", 3).expect("io"), Err(4));
        assert_eq!(fence.pass("web", 5).expect("io"), Ok(()));
    }

    #[test]
    fn a_damaged_file_is_not_ignored() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("fence.json");
        std::fs::write(&file, "[").expect("write");
        assert!(Fence::open(&file).is_err());
    }
}
