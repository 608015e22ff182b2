//! Memory that came while the container still ran at the source.
//!
//! One sparse file a process, in the migration's own folder on tmpfs; a page lies at its own address. What was put into
//! a process is punched out, so nothing is held twice for long.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::FallocateFlags;

use crate::journal::create_private_folder;

/// The files of one migration.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    files: Mutex<HashMap<u32, Arc<File>>>,
}

impl Store {
    /// Nothing is touched before something comes.
    pub fn new(folder: &Path) -> Store {
        Store { folder: folder.to_owned(), files: Mutex::default() }
    }

    fn file(&self, pid: u32) -> io::Result<Arc<File>> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = files.get(&pid) {
            return Ok(Arc::clone(file));
        }
        create_private_folder(&self.folder)?;
        let path = self.folder.join(pid.to_string());
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let file = Arc::new(file);
        files.insert(pid, Arc::clone(&file));
        Ok(file)
    }

    /// Keeps content.
    pub fn put(&self, pid: u32, address: u64, content: &[u8]) -> io::Result<()> {
        self.file(pid)?.write_all_at(content, address)
    }

    /// Keeps zeros, which take no room.
    pub fn put_zeros(&self, pid: u32, address: u64, len: u64) -> io::Result<()> {
        let file = self.file(pid)?;
        if file.metadata()?.len() < address + len {
            file.set_len(address + len)?;
        }
        self.punch(&file, address, len)
    }

    /// What was kept there; zeros where nothing was.
    pub fn get(&self, pid: u32, address: u64, into: &mut [u8]) -> io::Result<()> {
        let file = self.file(pid)?;
        let mut at = 0;
        while at < into.len() {
            match file.read_at(&mut into[at..], address + at as u64) {
                // Behind the end nothing was ever kept.
                Ok(0) => {
                    into[at..].fill(0);
                    break;
                }
                Ok(count) => at += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gives the room of what is needed no longer back, where any was taken.
    pub fn forget(&self, pid: u32, address: u64, len: u64) -> io::Result<()> {
        let file = self.files.lock().unwrap_or_else(PoisonError::into_inner).get(&pid).cloned();
        file.map_or(Ok(()), |file| self.punch(&file, address, len))
    }

    fn punch(&self, file: &File, address: u64, len: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(file, flags, address, len)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_given_back_and_the_rest_is_zero() {
        // Where it lies in use: other file systems know no offsets this large.
        let folder = tempfile::tempdir_in("/dev/shm").expect("a folder on tmpfs");
        let store = Store::new(&folder.path().join("store"));
        let high = 0x7fff_0000_0000;
        store.put(7, high, &[5; 8192]).expect("put");
        store.put(7, high + 4096, &[6; 4096]).expect("put");
        let mut page = [1; 4096];
        store.get(7, high, &mut page).expect("get");
        assert_eq!(page, [5; 4096]);
        store.get(7, high + 4096, &mut page).expect("get");
        assert_eq!(page, [6; 4096]);
        store.put_zeros(7, high, 4096).expect("zeros");
        store.get(7, high, &mut page).expect("get");
        assert_eq!(page, [0; 4096]);
        store.get(8, 0, &mut page).expect("get");
        assert_eq!(page, [0; 4096], "another process");
    }
}
