//! A tree at the destination: changes, applied inside it and nowhere else.
//!
//! Times of folders change with what is done in them, so those of every folder that was touched are set last.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, CWD, Dir, FallocateFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chmod,
    chownat, fallocate, fstat, ftruncate, linkat, listxattr, mkdirat, mknodat, openat, removexattr, setxattr, statat,
    symlinkat, unlinkat, utimensat,
};

use super::change::Metadata;
use super::root::{Root, again, is_nothing, reopen};
use super::{Change, FileError};

/// Applies the changes of one stream.
#[derive(Debug, Default)]
pub struct Applier {
    tree: Option<Arc<Root>>,
    /// Of the folders that were touched in this tree: what their time is to be.
    times: BTreeMap<PathBuf, (i64, u32)>,
    open: Option<Open>,
}

/// The file whose content comes.
#[derive(Debug)]
struct Open {
    file: File,
    path: PathBuf,
    metadata: Metadata,
    size: u64,
    patched: bool,
}

impl Applier {
    /// What comes next happens in this tree.
    pub fn enter(&mut self, tree: Arc<Root>) -> Result<(), FileError> {
        self.close()?;
        self.tree = Some(tree);
        self.times.clear();
        Ok(())
    }

    /// Applies one change. [`Change::Tree`] is the caller's: only it knows where trees are.
    pub fn change(&mut self, change: Change) -> Result<(), FileError> {
        self.close()?;
        let root = Arc::clone(self.tree.as_ref().ok_or(FileError::Damaged("a change without a tree"))?);
        match change {
            Change::Tree(_) => return Err(FileError::Damaged("a tree that nobody knows")),
            Change::Remove(path) => self.remove(&root, &path)?,
            Change::Place { path, directory } => self.place(&root, &path, directory)?,
            Change::Directory { path, metadata, clear } => self.directory(&root, &path, &metadata, clear)?,
            Change::File { path, metadata, size } => {
                let (parent, name) = self.vacate(&root, &path)?;
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                let file = openat(&parent, name, flags, Mode::RUSR | Mode::WUSR);
                let file = File::from(file.map_err(FileError::at(&path, "created"))?);
                self.open = Some(Open { file, path, metadata, size, patched: false });
            }
            Change::Patch { path, metadata, size } => {
                let (parent, name) = root.parent(&path).map_err(FileError::at(&path, "found"))?;
                let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
                let file = openat(&parent, name, flags, Mode::empty()).map_err(FileError::at(&path, "opened"))?;
                let stat = fstat(&file).map_err(FileError::at(&path, "looked at"))?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                    return Err(FileError::Damaged("new content for what is no file"));
                }
                self.open = Some(Open { file: file.into(), path, metadata, size, patched: true });
            }
            Change::Link { path, to } => {
                let (from, old) = root.parent(&to).map_err(FileError::at(&to, "found"))?;
                let (parent, name) = self.vacate(&root, &path)?;
                linkat(&from, old, &parent, name, AtFlags::empty()).map_err(FileError::at(&path, "linked"))?;
            }
            Change::Symlink { path, metadata, target } => {
                let (parent, name) = self.vacate(&root, &path)?;
                symlinkat(&*target, &parent, name).map_err(FileError::at(&path, "created"))?;
                dress(&root, &path, &metadata, false)?;
            }
            Change::Special { path, metadata, kind, device } => {
                let (parent, name) = self.vacate(&root, &path)?;
                let kind = FileType::from_raw_mode(kind);
                let special = [FileType::Fifo, FileType::Socket, FileType::CharacterDevice, FileType::BlockDevice];
                // A whiteout is overlay's own; as a device it would hide what it is made next to.
                if !special.contains(&kind) || (kind == FileType::CharacterDevice && device == 0) {
                    return Err(FileError::Damaged("a special file of no known kind"));
                }
                let made = mknodat(&parent, name, kind, Mode::RUSR | Mode::WUSR, device);
                made.map_err(FileError::at(&path, "created"))?;
                dress(&root, &path, &metadata, true)?;
            }
            Change::EndOfRound => self.end_of_round(&root)?,
        }
        Ok(())
    }

    /// Content of the file that the last change named.
    pub fn block(&mut self, offset: u64, content: &[u8]) -> Result<(), FileError> {
        let open = self.open.as_ref().ok_or(FileError::Damaged("content of no file"))?;
        if offset.checked_add(content.len() as u64).is_none_or(|end| end > open.size) {
            return Err(FileError::Damaged("content behind the end of its file"));
        }
        if open.patched && content.iter().all(|byte| *byte == 0) {
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            if fallocate(&open.file, hole, offset, content.len() as u64).is_ok() {
                return Ok(());
            }
        }
        open.file.write_all_at(content, offset).map_err(FileError::at(&open.path, "written"))
    }

    /// The file has all its content.
    pub fn close(&mut self) -> Result<(), FileError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let root = self.tree.as_ref().ok_or(FileError::Damaged("a file without a tree"))?;
        ftruncate(&open.file, open.size).map_err(FileError::at(&open.path, "resized"))?;
        drop(open.file);
        dress(root, &open.path, &open.metadata, true)
    }

    fn remove(&mut self, root: &Root, path: &Path) -> Result<(), FileError> {
        match root.parent(path) {
            Ok((parent, name)) => {
                self.touch(root, path)?;
                remove(&parent, name).map_err(FileError::at(path, "removed"))
            }
            Err(error) if is_nothing(&error) => Ok(()),
            Err(error) => Err(FileError::at(path, "found")(error)),
        }
    }

    /// The folder of a path and its last name, of which nothing is left there.
    fn vacate<'a>(&mut self, root: &Root, path: &'a Path) -> Result<(OwnedFd, &'a OsStr), FileError> {
        self.touch(root, path)?;
        let (parent, name) = root.parent(path).map_err(FileError::at(path, "found"))?;
        remove(&parent, name).map_err(FileError::at(path, "replaced"))?;
        Ok((parent, name))
    }

    fn place(&mut self, root: &Root, path: &Path, directory: bool) -> Result<(), FileError> {
        if root.entry(path).is_ok_and(|there| is_folder(&there) == directory) {
            return Ok(());
        }
        let (parent, name) = self.vacate(root, path)?;
        let made = if directory {
            mkdirat(&parent, name, Mode::from_raw_mode(0o755))
        } else {
            mknodat(&parent, name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0)
        };
        made.map_err(FileError::at(path, "created"))
    }

    fn directory(&mut self, root: &Root, path: &Path, metadata: &Metadata, clear: bool) -> Result<(), FileError> {
        if !root.entry(path).is_ok_and(|there| is_folder(&there)) {
            let (parent, name) = self.vacate(root, path)?;
            mkdirat(&parent, name, Mode::RWXU).map_err(FileError::at(path, "created"))?;
        } else if clear {
            let folder = root.entry(path).map_err(FileError::at(path, "found"))?;
            empty(&folder).map_err(FileError::at(path, "emptied"))?;
        }
        dress(root, path, metadata, true)?;
        self.times.insert(path.to_owned(), metadata.mtime);
        Ok(())
    }

    /// Remembers the time of the folder in which something is going to be done.
    fn touch(&mut self, root: &Root, path: &Path) -> Result<(), FileError> {
        let folder = path.parent().unwrap_or(Path::new(""));
        if !self.times.contains_key(folder)
            && let Ok(stat) = root.entry(folder).and_then(|handle| Ok(fstat(&handle)?))
        {
            let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or_default();
            self.times.insert(folder.to_owned(), (stat.st_mtime, nanoseconds));
        }
        Ok(())
    }

    fn end_of_round(&mut self, root: &Root) -> Result<(), FileError> {
        for (path, mtime) in std::mem::take(&mut self.times) {
            match root.entry(&path) {
                // It was a folder when it was touched.
                Ok(there) if !is_folder(&there) => {}
                Ok(folder) => set_time(&again(&folder), mtime, AtFlags::empty())
                    .map_err(FileError::at(&path, "given its time"))?,
                Err(error) if is_nothing(&error) => {}
                Err(error) => return Err(FileError::at(&path, "found")(error)),
            }
        }
        Ok(())
    }
}

fn is_folder(handle: &OwnedFd) -> bool {
    fstat(handle).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// Removes whatever has this name.
fn remove(parent: &OwnedFd, name: &OsStr) -> std::io::Result<()> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            empty(&openat(parent, name, flags, Mode::empty())?)?;
            unlinkat(parent, name, AtFlags::REMOVEDIR)?;
        }
        Ok(_) => unlinkat(parent, name, AtFlags::empty())?,
    }
    Ok(())
}

/// Removes everything in a folder.
fn empty(folder: &OwnedFd) -> std::io::Result<()> {
    let names: Result<Vec<_>, _> =
        Dir::new(reopen(folder)?)?.map(|entry| entry.map(|entry| entry.file_name().to_owned())).collect();
    for name in names? {
        if name.to_bytes() != b"." && name.to_bytes() != b".." {
            remove(folder, OsStr::from_bytes(name.to_bytes()))?;
        }
    }
    Ok(())
}

/// Gives what is at a path its owner, mode, attributes and time, in the order in which none undoes another.
fn dress(root: &Root, path: &Path, metadata: &Metadata, has_mode: bool) -> Result<(), FileError> {
    let handle = root.entry(path).map_err(FileError::at(path, "found"))?;
    let itself = again(&handle);
    let owner = (Uid::from_raw(metadata.uid), Gid::from_raw(metadata.gid));
    chownat(handle.as_fd(), "", Some(owner.0), Some(owner.1), AtFlags::EMPTY_PATH)
        .map_err(FileError::at(path, "given its owner"))?;
    if has_mode {
        chmod(&itself, Mode::from_raw_mode(metadata.mode)).map_err(FileError::at(path, "given its mode"))?;
    }
    xattrs(&itself, metadata).map_err(FileError::at(path, "given its attributes"))?;
    // A link's own handle cannot be given times; its name in its folder can.
    let timed = if has_mode {
        set_time(&itself, metadata.mtime, AtFlags::empty())
    } else {
        root.parent(path)
            .and_then(|(parent, name)| set_time(&again(&parent).join(name), metadata.mtime, AtFlags::SYMLINK_NOFOLLOW))
    };
    timed.map_err(FileError::at(path, "given its time"))
}

/// Sets the attributes that there are to be, and removes the others.
fn xattrs(path: &Path, metadata: &Metadata) -> std::io::Result<()> {
    let mut names = vec![0; 64 << 10];
    let length = listxattr(path, &mut names[..]).unwrap_or_default();
    let wanted: BTreeSet<&[u8]> = metadata.xattrs.iter().map(|(name, _)| name.as_slice()).collect();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let ours = [&b"user."[..], b"security.capability", b"system.posix_acl", b"trusted."]
            .iter()
            .any(|kind| name.starts_with(kind));
        if ours && !name.starts_with(b"trusted.overlay.") && !wanted.contains(name) {
            removexattr(path, name)?;
        }
    }
    for (name, value) in &metadata.xattrs {
        if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
            return Err(std::io::Error::other("an attribute of overlay's own does not travel"));
        }
        setxattr(path, name.as_slice(), value, XattrFlags::empty())?;
    }
    Ok(())
}

fn set_time(path: &Path, (seconds, nanoseconds): (i64, u32), flags: AtFlags) -> std::io::Result<()> {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    Ok(utimensat(CWD, path, &Timestamps { last_access: time, last_modification: time }, flags)?)
}
