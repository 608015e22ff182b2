//! Which paths of a tree may differ from what the destination has.
//!
//! A volume differs everywhere. A container's root differs from its image where the storage driver says so: overlay
//! keeps what differs in a folder of its own (`upperdir`), which is listed here directly, in a fraction of the time that
//! Docker takes. The list holds names only: what is at them is read through the container's own root.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, fstat, getxattr};

use super::FileError;
use super::root::{Root, again, is_nothing, reopen};

/// One path that may differ.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Relative to the tree.
    pub path: PathBuf,
    /// A folder that hides all that the image has at this place.
    pub clear: bool,
}

/// Where the list comes from.
#[derive(Debug)]
pub enum Listing {
    /// Everything that is there.
    All,
    /// What is in this folder.
    Upper(Root),
    /// What somebody else has found out, for one round.
    Given(Vec<Listed>),
}

impl Listing {
    /// The paths, folders before what is in them.
    pub(super) fn paths(&self, tree: &Root) -> Result<Vec<Listed>, FileError> {
        let mut found = match self {
            Listing::All => {
                let mut all = walk(tree)?;
                if let Some(root) = all.iter_mut().find(|listed| listed.path.as_os_str().is_empty()) {
                    root.clear = true;
                }
                all
            }
            Listing::Upper(upper) => walk(upper)?,
            Listing::Given(paths) => paths.clone(),
        };
        found.sort();
        found.dedup_by(|later, earlier| later.path == earlier.path);
        Ok(found)
    }
}

/// Everything in a folder, itself included. What vanishes meanwhile is left out.
fn walk(root: &Root) -> Result<Vec<Listed>, FileError> {
    let mut found = Vec::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(folder) = waiting.pop() {
        let handle = match root.entry(&folder) {
            Ok(handle) => handle,
            Err(error) if is_nothing(&error) => continue,
            // A place where something is mounted: its name is all that counts.
            Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices => {
                found.push(Listed { path: folder, clear: false });
                continue;
            }
            Err(error) => return Err(FileError::at(&folder, "looked at")(error)),
        };
        let is_folder = fstat(&handle).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
        found.push(Listed { clear: is_folder && is_opaque(&again(&handle)), path: folder.clone() });
        if !is_folder {
            continue;
        }
        let entries = reopen(&handle).and_then(|folder| Ok(Dir::new(folder)?));
        for entry in entries.map_err(FileError::at(&folder, "listed"))? {
            let entry = entry.map_err(FileError::at(&folder, "listed"))?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let path = folder.join(std::ffi::OsStr::from_bytes(name));
            match entry.file_type() {
                FileType::Directory | FileType::Unknown => waiting.push(path),
                _ => found.push(Listed { path, clear: false }),
            }
        }
    }
    Ok(found)
}

/// Whether overlay lets nothing of the lower layers show through.
fn is_opaque(folder: &Path) -> bool {
    ["trusted.overlay.opaque", "user.overlay.opaque"].iter().any(|name| {
        let mut value = [0; 4];
        matches!(getxattr(folder, *name, &mut value[..]), Ok(1)) && value[0] == b'y'
    })
}
