//! A tree at the source: what the destination was told of it, and what it has to be told next.
//!
//! Whether a file was changed is read off its inode: every change of content or metadata sets ctime. Two writes within
//! one tick of the kernel's clock may leave the same ctime, so a file that was changed just before it was looked at is
//! looked at again. Writes through a mapping set ctime only when the page becomes dirty, so a page that is dirty already
//! is written back before the file is read: the next write then sets ctime again.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Bound;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FileType, SeekFrom, Stat, fdatasync, seek};

use super::node::{Fingerprint, Node, fingerprint, kind, metadata, target};
use super::root::{Root, is_nothing, reopen};
use super::scan::{Listed, Listing};
use super::{BLOCK, Change, FileError, Piece};

/// Coarser than any kernel's clock tick.
const TICK_NS: i128 = 50_000_000;

/// Dirty pages older than this were written back by the kernel itself.
const WRITTEN_BACK_NS: i128 = 120_000_000_000;

/// What one round came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Content.
    pub bytes: u64,
    /// Files, folders and removals.
    pub changes: u64,
}

impl std::ops::AddAssign for Sent {
    fn add_assign(&mut self, other: Sent) {
        self.bytes += other.bytes;
        self.changes += other.changes;
    }
}

/// What the destination was told of one path.
#[derive(Debug)]
enum Told {
    Missing,
    Foreign,
    Node {
        fingerprint: Fingerprint,
        /// It may have changed without another ctime.
        doubtful: bool,
        /// The folder hid everything that was there before.
        clear: bool,
        /// The path that has the content, where this one is only another name.
        link: Option<PathBuf>,
        /// The hashes of a regular file's blocks.
        blocks: Vec<blake3::Hash>,
    },
}

/// One tree.
#[derive(Debug)]
pub struct Tree {
    name: String,
    root: Root,
    listing: Listing,
    told: BTreeMap<PathBuf, Told>,
}

type Take<'a> = dyn FnMut(Piece) -> Result<(), FileError> + 'a;

impl Tree {
    /// A tree of which the destination knows nothing yet.
    pub fn new(name: &str, root: Root, listing: Listing) -> Tree {
        Tree { name: name.to_owned(), root, listing, told: BTreeMap::new() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the next round's list comes from.
    pub fn set_listing(&mut self, listing: Listing) {
        self.listing = listing;
    }

    /// Content of everything that is listed now, as the disk counts it.
    pub fn listed_bytes(&self) -> Result<u64, FileError> {
        let mut bytes = 0;
        for listed in self.listing.paths(&self.root)? {
            if let Ok(Node::Here { stat, .. }) = Node::look(&self.root, &listed.path) {
                bytes += u64::try_from(stat.st_blocks).unwrap_or_default() * 512;
            }
        }
        Ok(bytes)
    }

    /// Says everything that has changed since the last round. `frozen`: nothing changes meanwhile.
    pub fn round(&mut self, frozen: bool, take: &mut Take<'_>) -> Result<Sent, FileError> {
        let mut listed = self.listing.paths(&self.root)?;
        if frozen {
            listed.retain(|listed| !is_of_the_dump(&listed.path));
        }
        let mut round = Round { take, frozen, sent: Sent::default(), unsaid: Some(self.name.clone()) };
        self.removals(&listed, &mut round)?;
        let mut holders: BTreeMap<(u64, u64), PathBuf> = BTreeMap::new();
        for listed in listed {
            match Node::look(&self.root, &listed.path).map_err(FileError::at(&listed.path, "looked at"))? {
                Node::Hidden => {}
                Node::Missing => {
                    if !matches!(self.told.get(&listed.path), Some(Told::Missing)) {
                        round.say(&Change::Remove(listed.path.clone()))?;
                        self.told.insert(listed.path, Told::Missing);
                    }
                }
                Node::Foreign { directory } => {
                    if !matches!(self.told.get(&listed.path), Some(Told::Foreign)) {
                        round.say(&Change::Place { path: listed.path.clone(), directory })?;
                        self.told.insert(listed.path, Told::Foreign);
                    }
                }
                Node::Here { handle, stat } => self.node(listed, &handle, &stat, &mut holders, &mut round)?,
            }
        }
        round.end()
    }

    /// What was told of and is listed no longer.
    fn removals(&mut self, listed: &[Listed], round: &mut Round<'_, '_>) -> Result<(), FileError> {
        let listed: std::collections::BTreeSet<&Path> = listed.iter().map(|listed| listed.path.as_path()).collect();
        let gone: Vec<PathBuf> =
            self.told.keys().filter(|path| !listed.contains(path.as_path())).rev().cloned().collect();
        for path in gone {
            let looked = Node::look(&self.root, &path).map_err(FileError::at(&path, "looked at"))?;
            // What is there although it is not listed came just now, or shows through again; the next list has it.
            if matches!(looked, Node::Missing) && !matches!(self.told.get(&path), Some(Told::Missing)) {
                round.say(&Change::Remove(path.clone()))?;
            }
            self.told.remove(&path);
        }
        Ok(())
    }

    fn node(
        &mut self,
        listed: Listed,
        handle: &OwnedFd,
        stat: &Stat,
        holders: &mut BTreeMap<(u64, u64), PathBuf>,
        round: &mut Round<'_, '_>,
    ) -> Result<(), FileError> {
        let Listed { path, clear } = listed;
        let now = fingerprint(stat);
        let doubtful = !round.frozen && age_ns(now.ctime) < TICK_NS;
        let shared = kind(stat) != FileType::Directory && now.links > 1;
        let link = if shared {
            let holder = holders.entry((now.device, now.inode)).or_insert_with(|| path.clone());
            (*holder != path).then(|| holder.clone())
        } else {
            None
        };
        let before = self.told.remove(&path);
        if let Some(Told::Node { fingerprint, doubtful: false, clear: cleared, link: linked, .. }) = &before
            && (*fingerprint, *cleared, linked) == (now, clear, &link)
        {
            self.told.extend(before.map(|before| (path, before)));
            return Ok(());
        }
        if let Some(to) = link {
            round.say(&Change::Link { path: path.clone(), to: to.clone() })?;
            let told = Told::Node { fingerprint: now, doubtful, clear, link: Some(to), blocks: Vec::new() };
            self.told.insert(path, told);
            return Ok(());
        }

        let metadata = match metadata(handle, stat) {
            Ok(metadata) => metadata,
            Err(error) if is_nothing(&error) => return Ok(()),
            Err(error) => return Err(FileError::at(&path, "read")(error)),
        };
        let mut blocks = Vec::new();
        match kind(stat) {
            FileType::Directory => {
                let same = matches!(&before, Some(Told::Node { fingerprint, clear: true, .. })
                    if fingerprint.is_same_file(&now));
                let clears = clear && !same;
                if clears {
                    self.forget_below(&path);
                }
                round.say(&Change::Directory { path: path.clone(), metadata, clear: clears })?;
            }
            FileType::RegularFile => {
                let size = u64::try_from(stat.st_size).unwrap_or_default();
                let known = match before {
                    Some(Told::Node { fingerprint, link: None, blocks, .. }) if fingerprint.is_same_file(&now) => {
                        Some(blocks)
                    }
                    _ => None,
                };
                let change = match known {
                    Some(_) => Change::Patch { path: path.clone(), metadata, size },
                    None => Change::File { path: path.clone(), metadata, size },
                };
                round.say(&change)?;
                let file = reopen(handle).map_err(FileError::at(&path, "opened"))?;
                if !round.frozen && age_ns(now.ctime) < WRITTEN_BACK_NS {
                    fdatasync(&file).map_err(FileError::at(&path, "written back"))?;
                }
                blocks = round.content(&path, &file, size, known.as_deref())?;
            }
            FileType::Symlink => {
                let target = target(handle).map_err(FileError::at(&path, "read"))?;
                round.say(&Change::Symlink { path: path.clone(), metadata, target })?;
            }
            _ => {
                let kind = stat.st_mode & 0o170_000;
                #[expect(clippy::useless_conversion, reason = "the type differs between architectures")]
                let device = u64::from(stat.st_rdev);
                round.say(&Change::Special { path: path.clone(), metadata, kind, device })?;
            }
        }
        self.told.insert(path, Told::Node { fingerprint: now, doubtful, clear, link: None, blocks });
        Ok(())
    }

    fn forget_below(&mut self, folder: &Path) {
        let range = (Bound::Excluded(folder.to_owned()), Bound::Unbounded);
        let below: Vec<PathBuf> =
            self.told.range(range).map(|(path, _)| path).take_while(|path| path.starts_with(folder)).cloned().collect();
        for path in below {
            self.told.remove(&path);
        }
    }
}

/// CRIU makes such folders in the container while it dumps its mounts, and removes them (criu/mount.c, `cr-tmpfs.XXXXXX`).
fn is_of_the_dump(path: &Path) -> bool {
    let below_root = path.strip_prefix("tmp").unwrap_or(path);
    let first = below_root.iter().next().and_then(|name| name.to_str());
    first.is_some_and(|name| name.strip_prefix("cr-tmpfs.").is_some_and(|rest| rest.len() == 6))
}

struct Round<'a, 'b> {
    take: &'a mut Take<'b>,
    frozen: bool,
    sent: Sent,
    /// The tree's name, until there is something to say of it: without a change its place need not even be there.
    unsaid: Option<String>,
}

impl Round<'_, '_> {
    fn say(&mut self, change: &Change) -> Result<(), FileError> {
        if let Some(name) = self.unsaid.take() {
            (self.take)(Piece::Change(Change::Tree(name).encode()))?;
        }
        self.sent.changes += 1;
        (self.take)(Piece::Change(change.encode()))
    }

    fn end(self) -> Result<Sent, FileError> {
        if self.unsaid.is_none() {
            (self.take)(Piece::Change(Change::EndOfRound.encode()))?;
        }
        Ok(self.sent)
    }

    fn block(&mut self, offset: u64, content: &[u8]) -> Result<(), FileError> {
        self.sent.bytes += content.len() as u64;
        (self.take)(Piece::Block { offset, content: content.to_vec() })
    }

    /// Sends what is new in a file, and returns the hashes of its blocks. Of a new file its holes are left out; of a
    /// known one the blocks that are as they were.
    fn content(
        &mut self,
        path: &Path,
        file: &File,
        size: u64,
        known: Option<&[blake3::Hash]>,
    ) -> Result<Vec<blake3::Hash>, FileError> {
        let mut hashes = Vec::new();
        let mut buffer = vec![0; BLOCK];
        let zeros = blake3::hash(&buffer);
        let mut offset = 0;
        // The end of the data that begins at or before `offset`.
        let mut data = 0..0;
        while offset < size {
            let length = usize::try_from(size - offset).unwrap_or(BLOCK).min(BLOCK);
            if known.is_none() && offset >= data.end {
                data = next_data(file, offset, size);
            }
            if known.is_none() && offset + length as u64 <= data.start {
                hashes.push(if length == BLOCK { zeros } else { blake3::hash(&vec![0; length]) });
                offset += length as u64;
                continue;
            }
            let block = &mut buffer[..length];
            let count = read_at(file, block, offset).map_err(FileError::at(path, "read"))?;
            // Cut shorter while it was read; the next round will see that.
            block[count..].fill(0);
            let hash = blake3::hash(block);
            let index = hashes.len();
            if known.is_none_or(|known| known.get(index) != Some(&hash)) {
                self.block(offset, block)?;
            }
            hashes.push(hash);
            offset += length as u64;
        }
        Ok(hashes)
    }
}

/// The next stretch of a file that is no hole; all the rest where the file system does not know.
fn next_data(file: &File, offset: u64, size: u64) -> std::ops::Range<u64> {
    match seek(file, SeekFrom::Data(offset)) {
        Ok(start) => start..seek(file, SeekFrom::Hole(start)).unwrap_or(size),
        Err(rustix::io::Errno::NXIO) => size..size,
        Err(_) => offset..size,
    }
}

fn read_at(file: &File, into: &mut [u8], offset: u64) -> std::io::Result<usize> {
    let mut count = 0;
    while count < into.len() {
        match file.read_at(&mut into[count..], offset + count as u64)? {
            0 => break,
            read => count += read,
        }
    }
    Ok(count)
}

/// How long ago that was; negative where the clock was set back, which counts as just now.
fn age_ns((seconds, nanoseconds): (i64, i64)) -> i128 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    i128::try_from(now).unwrap_or(i128::MAX) - (i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds))
}
