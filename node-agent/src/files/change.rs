//! One change to a tree, and its bytes on the wire.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use super::FileError;

/// Bounds the xattrs of one file; the kernel's own limits are lower on common file systems.
const MOST_XATTRS: usize = 1000;

/// What a file carries besides content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Permission bits, setuid, setgid and sticky included.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time: seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes: name and value.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// One change. Paths are relative to the tree; the empty one is the tree itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// What follows happens in this tree.
    Tree(String),
    /// There is nothing at this path.
    Remove(PathBuf),
    /// Something is mounted there once the container runs; until then an empty place is enough.
    Place {
        /// Where.
        path: PathBuf,
        /// A folder, or else a file.
        directory: bool,
    },
    /// A folder.
    Directory {
        /// Where.
        path: PathBuf,
        /// Its metadata.
        metadata: Metadata,
        /// It hides what was there before.
        clear: bool,
    },
    /// A new file, whose content follows; what does not follow is a hole.
    File {
        /// Where.
        path: PathBuf,
        /// Its metadata.
        metadata: Metadata,
        /// Its length.
        size: u64,
    },
    /// A file that was sent before, of which some blocks follow.
    Patch {
        /// Where.
        path: PathBuf,
        /// Its metadata.
        metadata: Metadata,
        /// Its length.
        size: u64,
    },
    /// Another name of a file that was sent before.
    Link {
        /// Where.
        path: PathBuf,
        /// The other name.
        to: PathBuf,
    },
    /// A symbolic link.
    Symlink {
        /// Where.
        path: PathBuf,
        /// Its metadata.
        metadata: Metadata,
        /// What it says, whatever that is.
        target: Vec<u8>,
    },
    /// A fifo, a socket or a device.
    Special {
        /// Where.
        path: PathBuf,
        /// Its metadata.
        metadata: Metadata,
        /// `S_IFMT` of its mode.
        kind: u32,
        /// Device number.
        device: u64,
    },
    /// The tree is as the source's was; times of folders can be set.
    EndOfRound,
}

impl Change {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer(Vec::with_capacity(128));
        match self {
            Change::Tree(name) => out.tag(0).bytes(name.as_bytes()),
            Change::Remove(path) => out.tag(1).path(path),
            Change::Place { path, directory } => out.tag(2).path(path).number(u64::from(*directory)),
            Change::Directory { path, metadata, clear } => {
                out.tag(3).path(path).metadata(metadata).number(u64::from(*clear))
            }
            Change::File { path, metadata, size } => out.tag(4).path(path).metadata(metadata).number(*size),
            Change::Patch { path, metadata, size } => out.tag(5).path(path).metadata(metadata).number(*size),
            Change::Link { path, to } => out.tag(6).path(path).path(to),
            Change::Symlink { path, metadata, target } => out.tag(7).path(path).metadata(metadata).bytes(target),
            Change::Special { path, metadata, kind, device } => {
                out.tag(8).path(path).metadata(metadata).number(u64::from(*kind)).number(*device)
            }
            Change::EndOfRound => out.tag(9),
        };
        out.0
    }

    /// Reads it back. A path that could lead out of a tree is refused.
    pub fn decode(bytes: &[u8]) -> Result<Change, FileError> {
        let (&tag, rest) = bytes.split_first().ok_or(FileError::Damaged("an empty change"))?;
        let mut from = Reader(rest);
        let change = match tag {
            0 => {
                let name = String::from_utf8(from.bytes()?.to_vec());
                Change::Tree(name.map_err(|_| FileError::Damaged("a tree's name"))?)
            }
            1 => Change::Remove(from.path()?),
            2 => Change::Place { path: from.path()?, directory: from.flag()? },
            3 => Change::Directory { path: from.path()?, metadata: from.metadata()?, clear: from.flag()? },
            4 => Change::File { path: from.path()?, metadata: from.metadata()?, size: from.number()? },
            5 => Change::Patch { path: from.path()?, metadata: from.metadata()?, size: from.number()? },
            6 => Change::Link { path: from.path()?, to: from.path()? },
            7 => Change::Symlink { path: from.path()?, metadata: from.metadata()?, target: from.bytes()?.to_vec() },
            8 => Change::Special {
                path: from.path()?,
                metadata: from.metadata()?,
                kind: from.small()?,
                device: from.number()?,
            },
            9 => Change::EndOfRound,
            _ => return Err(FileError::Damaged("an unknown change")),
        };
        if from.0.is_empty() { Ok(change) } else { Err(FileError::Damaged("a change that is too long")) }
    }
}

/// Whether a path is made of plain names only.
pub(super) fn is_inside(path: &Path) -> bool {
    let plain = path.components().all(|component| matches!(component, Component::Normal(_)));
    // `components` drops `.`, doubled and trailing slashes; those are not plain either.
    let again: PathBuf = path.components().collect();
    plain && again.as_os_str() == path.as_os_str() && !path.as_os_str().as_bytes().contains(&0)
}

struct Writer(Vec<u8>);

impl Writer {
    fn tag(&mut self, tag: u8) -> &mut Self {
        self.0.push(tag);
        self
    }

    fn number(&mut self, number: u64) -> &mut Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.number(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    fn path(&mut self, path: &Path) -> &mut Self {
        self.bytes(path.as_os_str().as_bytes())
    }

    fn metadata(&mut self, metadata: &Metadata) -> &mut Self {
        for number in [metadata.mode, metadata.uid, metadata.gid, metadata.mtime.1] {
            self.number(u64::from(number));
        }
        self.number(metadata.mtime.0.cast_unsigned()).number(metadata.xattrs.len() as u64);
        for (name, value) in &metadata.xattrs {
            self.bytes(name).bytes(value);
        }
        self
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn number(&mut self) -> Result<u64, FileError> {
        let (number, rest) = self.0.split_first_chunk::<8>().ok_or(FileError::Damaged("a number"))?;
        self.0 = rest;
        Ok(u64::from_be_bytes(*number))
    }

    fn small(&mut self) -> Result<u32, FileError> {
        u32::try_from(self.number()?).map_err(|_| FileError::Damaged("a number"))
    }

    fn flag(&mut self) -> Result<bool, FileError> {
        match self.number()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(FileError::Damaged("a flag")),
        }
    }

    fn bytes(&mut self) -> Result<&'a [u8], FileError> {
        let length = usize::try_from(self.number()?).map_err(|_| FileError::Damaged("a length"))?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(FileError::Damaged("a length"))?;
        self.0 = rest;
        Ok(bytes)
    }

    fn path(&mut self) -> Result<PathBuf, FileError> {
        let path = PathBuf::from(OsString::from_vec(self.bytes()?.to_vec()));
        if is_inside(&path) { Ok(path) } else { Err(FileError::Damaged("a path that leads out of its tree")) }
    }

    fn metadata(&mut self) -> Result<Metadata, FileError> {
        let (mode, uid, gid, ns) = (self.small()?, self.small()?, self.small()?, self.small()?);
        let mtime = (self.number()?.cast_signed(), ns);
        let count = self.number()?;
        if mode > 0o7777 || ns >= 1_000_000_000 || count > MOST_XATTRS as u64 {
            return Err(FileError::Damaged("metadata"));
        }
        let xattrs: Result<_, FileError> =
            (0..count).map(|_| Ok((self.bytes()?.to_vec(), self.bytes()?.to_vec()))).collect();
        Ok(Metadata { mode, uid, gid, mtime, xattrs: xattrs? })
    }
}
