//! tar, as CRIU calls it for a tmpfs: `--create … --directory /proc/self/fd/0 .` onto standard output, and
//! `--extract … --directory PLACE` from standard input.
//!
//! Folders, ordinary files, links, devices and pipes of a small tree are packed here, as an archive that is not
//! compressed. For anything else (large, extended attributes, hard links, sockets), and for a compressed archive, this
//! becomes the real tar.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, chmodat, chownat, fstat, mkdirat,
    mknodat, openat, readlinkat, statat, symlinkat, utimensat,
};
use rustix::io::Errno;
use tar::{Archive, Builder, EntryType, Header};

/// More entries than this, or more content, and starting processes does not matter.
const MOST_ENTRIES: usize = 2000;
const MOST_BYTES: u64 = 4 << 20;

const GZIP: [u8; 2] = [0x1f, 0x8b];

pub(crate) fn run(arguments: &[OsString]) -> ExitCode {
    let said = |word: &str| arguments.iter().any(|argument| argument == word);
    let place = arguments.iter().position(|argument| argument == "--directory").and_then(|at| arguments.get(at + 1));
    let done = match place {
        Some(place) if said("--create") && said(".") => create(Path::new(place)),
        Some(place) if said("--extract") => extract(Path::new(place)),
        _ => Ok(false),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => crate::become_real("tar", arguments, false),
        Err(error) => {
            eprintln!("Error: a tmpfs cannot be packed or unpacked: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One thing in the tree.
struct Entry {
    name: PathBuf,
    stat: Stat,
    content: Vec<u8>,
    target: Option<PathBuf>,
}

/// False when the real tar has to do it; nothing was written then.
fn create(place: &Path) -> io::Result<bool> {
    let root = openat(CWD, place, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let stat = fstat(&root)?;
    let mut found = vec![Entry { name: PathBuf::new(), stat, content: Vec::new(), target: None }];
    if !collect(&root, Path::new(""), stat.st_dev, &mut found)? {
        return Ok(false);
    }
    let mut packed = Builder::new(Vec::new());
    for entry in &found {
        append(&mut packed, entry)?;
    }
    io::stdout().write_all(&packed.into_inner()?)?;
    Ok(true)
}

fn collect(folder: &OwnedFd, below: &Path, device: u64, found: &mut Vec<Entry>) -> io::Result<bool> {
    if has_attributes(folder)? {
        return Ok(false);
    }
    for item in Dir::read_from(folder)? {
        let item = item?;
        let name = OsStr::from_bytes(item.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let bytes: u64 = found.iter().map(|entry| entry.content.len() as u64).sum();
        if found.len() >= MOST_ENTRIES || (kind != FileType::Directory && stat.st_nlink > 1) {
            return Ok(false);
        }
        let (mut content, mut target, mut inside) = (Vec::new(), None, None);
        match kind {
            FileType::Directory if stat.st_dev == device => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                inside = Some(openat(folder, name, flags, Mode::empty())?);
            }
            // A mount: its place is kept, what is in it is not.
            FileType::Directory | FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo => {}
            FileType::RegularFile => {
                let length = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
                if bytes.saturating_add(length) > MOST_BYTES {
                    return Ok(false);
                }
                let file = openat(folder, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
                if has_attributes(&file)? {
                    return Ok(false);
                }
                File::from(file).take(length).read_to_end(&mut content)?;
            }
            FileType::Symlink => {
                let read = readlinkat(folder, name, Vec::new())?;
                target = Some(PathBuf::from(OsString::from_vec(read.into_bytes())));
            }
            _ => return Ok(false),
        }
        let name = below.join(name);
        found.push(Entry { name: name.clone(), stat, content, target });
        if let Some(inside) = inside
            && !collect(&inside, &name, device, found)?
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn has_attributes(file: &OwnedFd) -> io::Result<bool> {
    match rustix::fs::flistxattr(file, &mut [0_u8; 0][..]) {
        Ok(0) | Err(Errno::OPNOTSUPP) => Ok(false),
        Ok(_) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

fn append(packed: &mut Builder<Vec<u8>>, entry: &Entry) -> io::Result<()> {
    let stat = &entry.stat;
    let mut header = Header::new_gnu();
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(stat.st_uid.into());
    header.set_gid(stat.st_gid.into());
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or_default());
    header.set_size(entry.content.len() as u64);
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => EntryType::Directory,
        FileType::CharacterDevice => EntryType::Char,
        FileType::BlockDevice => EntryType::Block,
        FileType::Fifo => EntryType::Fifo,
        FileType::Symlink => EntryType::Symlink,
        _ => EntryType::Regular,
    };
    header.set_entry_type(kind);
    if matches!(kind, EntryType::Char | EntryType::Block) {
        header.set_device_major(rustix::fs::major(stat.st_rdev))?;
        header.set_device_minor(rustix::fs::minor(stat.st_rdev))?;
    }
    if entry.name.as_os_str().is_empty() {
        header.as_old_mut().name[..2].copy_from_slice(b"./");
        header.set_cksum();
        return packed.append(&header, io::empty());
    }
    match &entry.target {
        Some(target) => packed.append_link(&mut header, &entry.name, target),
        None => packed.append_data(&mut header, &entry.name, entry.content.as_slice()),
    }
}

/// False when the real tar has to do it; standard input is where it was then.
fn extract(place: &Path) -> io::Result<bool> {
    let mut input = File::from(rustix::io::dup(io::stdin().as_fd())?);
    let begin = input.stream_position()?;
    let mut packed = Vec::new();
    Read::by_ref(&mut input).take(MOST_BYTES * 4).read_to_end(&mut packed)?;
    if packed.starts_with(&GZIP) {
        input.seek(SeekFrom::Start(begin))?;
        return Ok(false);
    }
    let root = openat(CWD, place, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::process::umask(Mode::empty());
    unpack(&root, &packed)?;
    Ok(true)
}

fn unpack(root: &OwnedFd, packed: &[u8]) -> io::Result<()> {
    let mut folders = Vec::new();
    for entry in Archive::new(packed).entries()? {
        let mut entry = entry?;
        let name = plain(&entry.path()?).ok_or_else(|| io::Error::other("a name in it leads out of it"))?;
        let header = entry.header();
        let mode = Mode::from_raw_mode(header.mode()?);
        let number = |number: io::Result<u64>| number.and_then(|n| u32::try_from(n).map_err(io::Error::other));
        let (uid, gid) = (number(header.uid())?, number(header.gid())?);
        let seconds = i64::try_from(header.mtime()?).unwrap_or_default();
        let kind = header.entry_type();
        let device = rustix::fs::makedev(
            header.device_major().ok().flatten().unwrap_or_default(),
            header.device_minor().ok().flatten().unwrap_or_default(),
        );
        match kind {
            EntryType::Directory if name.as_os_str() == "." => {}
            EntryType::Directory => match mkdirat(root, &name, mode) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            },
            EntryType::Regular => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                io::copy(&mut entry, &mut File::from(openat(root, &name, flags, mode)?))?;
            }
            EntryType::Symlink => {
                let target = entry.link_name()?.ok_or_else(|| io::Error::other("a link in it leads nowhere"))?;
                symlinkat(target.as_os_str(), root, &name)?;
            }
            EntryType::Char => mknodat(root, &name, FileType::CharacterDevice, mode, device)?,
            EntryType::Block => mknodat(root, &name, FileType::BlockDevice, mode, device)?,
            EntryType::Fifo => mknodat(root, &name, FileType::Fifo, mode, 0)?,
            _ => return Err(io::Error::other("it has an entry of an unknown kind")),
        }
        chownat(root, &name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::SYMLINK_NOFOLLOW)?;
        if kind != EntryType::Symlink {
            // Changing the owner takes some bits away.
            chmodat(root, &name, mode, AtFlags::empty())?;
        }
        match kind {
            EntryType::Directory => folders.push((name, seconds)),
            _ => set_time(root, &name, seconds)?,
        }
    }
    // What was put into a folder has changed its time.
    folders.iter().rev().try_for_each(|(name, seconds)| set_time(root, name, *seconds))
}

fn set_time(root: &OwnedFd, name: &Path, seconds: i64) -> io::Result<()> {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(utimensat(root, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// A name that stays inside; `.` for the folder itself.
fn plain(name: &Path) -> Option<PathBuf> {
    let mut inside = PathBuf::new();
    for part in name.components() {
        match part {
            Component::CurDir => {}
            Component::Normal(part) => inside.push(part),
            _ => return None,
        }
    }
    if inside.as_os_str().is_empty() {
        inside.push(".");
    }
    Some(inside)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn packed(place: &Path) -> Option<Vec<u8>> {
        let root = openat(CWD, place, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).expect("open");
        let stat = fstat(&root).expect("stat");
        let mut found = vec![Entry { name: PathBuf::new(), stat, content: Vec::new(), target: None }];
        collect(&root, Path::new(""), stat.st_dev, &mut found).expect("collect").then(|| {
            let mut packed = Builder::new(Vec::new());
            found.iter().for_each(|entry| append(&mut packed, entry).expect("append"));
            packed.into_inner().expect("packed")
        })
    }

    #[test]
    fn a_tree_comes_back_as_it_was() {
        let (from, to) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let name = "n".repeat(90);
        std::fs::create_dir_all(from.path().join("a/b").join(&name)).expect("create");
        std::fs::write(from.path().join("a/file"), b"content").expect("write");
        std::fs::set_permissions(from.path().join("a/file"), PermissionsExt::from_mode(0o4751)).expect("mode");
        std::fs::set_permissions(from.path(), PermissionsExt::from_mode(0o1777)).expect("mode");
        symlink("/proc/self/fd", from.path().join("fd")).expect("a link");
        symlink(format!("/{name}/{name}"), from.path().join("a").join(&name)).expect("a long link");
        mknodat(CWD, from.path().join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("a pipe");
        let root = openat(CWD, to.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).expect("open");
        unpack(&root, &packed(from.path()).expect("small enough")).expect("unpack");
        for name in ["", "a", "a/file", "fd", "pipe", &format!("a/{name}"), &format!("a/b/{name}")] {
            let of = |place: &Path| {
                let found = place.join(name).symlink_metadata().unwrap_or_else(|error| panic!("{name}: {error}"));
                (found.mode(), found.uid(), found.gid(), found.mtime(), std::fs::read_link(place.join(name)).ok())
            };
            assert_eq!(of(to.path()), of(from.path()), "{name}");
        }
        assert_eq!(std::fs::read(to.path().join("a/file")).expect("read"), b"content");
    }

    #[test]
    fn what_is_unusual_is_left_to_the_real_one() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("one"), b"content").expect("write");
        assert!(packed(folder.path()).is_some());
        std::fs::hard_link(folder.path().join("one"), folder.path().join("two")).expect("a hard link");
        assert!(packed(folder.path()).is_none());
        std::fs::remove_file(folder.path().join("two")).expect("remove");
        let socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).expect("a socket");
        assert!(packed(folder.path()).is_none());
        drop(socket);
        std::fs::remove_file(folder.path().join("socket")).expect("remove");
        File::create(folder.path().join("large")).and_then(|file| file.set_len(MOST_BYTES + 1)).expect("a large file");
        assert!(packed(folder.path()).is_none());
    }

    #[test]
    fn no_name_leads_out() {
        assert_eq!(plain(Path::new("./a/b")), Some("a/b".into()));
        assert_eq!(plain(Path::new("./")), Some(".".into()));
        assert_eq!(plain(Path::new("a/../b")), None);
        assert_eq!(plain(Path::new("/a")), None);
    }
}
