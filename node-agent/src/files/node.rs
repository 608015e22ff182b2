//! What is at one path of a source's tree.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Stat, fstat, getxattr, listxattr, readlinkat, statat};

use super::change::Metadata;
use super::root::{Root, again, is_nothing};

/// The node's inode as far as it tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) links: u64,
    mode: u32,
    owner: (u32, u32),
    size: i64,
    mtime: (i64, i64),
    pub(super) ctime: (i64, i64),
}

impl Fingerprint {
    /// The same inode; its number alone may have been given to something else meanwhile.
    pub(super) fn is_same_file(&self, other: &Fingerprint) -> bool {
        (self.device, self.inode, self.mode >> 12) == (other.device, other.inode, other.mode >> 12)
    }
}

/// What is at a path.
#[derive(Debug)]
pub(super) enum Node {
    /// Nothing.
    Missing,
    /// Something that does not belong to the tree: it is mounted there.
    Foreign { directory: bool },
    /// Something that nobody sees: another file system covers the folder that it is in.
    Hidden,
    /// This.
    Here { handle: OwnedFd, stat: Stat },
}

impl Node {
    pub(super) fn look(root: &Root, path: &Path) -> io::Result<Node> {
        match root.entry(path) {
            Ok(handle) => {
                let stat = fstat(&handle)?;
                Ok(Node::Here { handle, stat })
            }
            Err(error) if is_nothing(&error) => Ok(Node::Missing),
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => match root.parent(path) {
                Ok((parent, name)) => {
                    let stat = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
                    Ok(Node::Foreign { directory: kind(&stat) == FileType::Directory })
                }
                // It is below such a place.
                Err(_) => Ok(Node::Hidden),
            },
            Err(error) => Err(error),
        }
    }
}

pub(super) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

#[expect(clippy::unnecessary_cast, reason = "the fields' types differ between architectures")]
pub(super) fn fingerprint(stat: &Stat) -> Fingerprint {
    Fingerprint {
        device: stat.st_dev as u64,
        inode: stat.st_ino as u64,
        links: stat.st_nlink as u64,
        mode: stat.st_mode,
        owner: (stat.st_uid, stat.st_gid),
        size: stat.st_size as i64,
        mtime: (stat.st_mtime as i64, stat.st_mtime_nsec as i64),
        ctime: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
    }
}

/// Reads what a node carries besides content.
#[expect(clippy::unnecessary_cast, reason = "the fields' types differ between architectures")]
pub(super) fn metadata(handle: &OwnedFd, stat: &Stat) -> io::Result<Metadata> {
    let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or_default();
    Ok(Metadata {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: (stat.st_mtime as i64, nanoseconds),
        xattrs: xattrs(handle)?,
    })
}

/// Attributes that say something about this node's system and not about the file.
fn is_local(name: &[u8]) -> bool {
    [&b"trusted.overlay."[..], b"user.overlay.", b"security.selinux", b"security.ima", b"security.evm"]
        .iter()
        .any(|local| name.starts_with(local))
}

fn xattrs(handle: &OwnedFd) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let path = again(handle);
    let mut names = vec![0; 64 << 10];
    let length = match listxattr(&path, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty() && !is_local(name)) {
        let mut value = vec![0; 64 << 10];
        match getxattr(&path, name, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                found.push((name.to_vec(), value));
            }
            Err(rustix::io::Errno::NODATA) => {}
            Err(error) => return Err(error.into()),
        }
    }
    found.sort();
    Ok(found)
}

/// What a symbolic link says.
pub(super) fn target(handle: &OwnedFd) -> io::Result<Vec<u8>> {
    Ok(readlinkat(handle, "", Vec::new())?.into_bytes())
}
