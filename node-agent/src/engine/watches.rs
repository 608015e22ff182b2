//! Which files a container's tasks watch (inotify), found before the freeze.
//!
//! The kernel tells of a watched file only its device and inode, and overlay file systems hand out no handle that leads
//! back to it. CRIU would then look through folders of its own choice; told where to look, it finds the file at once.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{major, minor};

use super::tasks;

/// So many files of the container are looked at before the rest is left to CRIU.
const MOST: usize = 500_000;

/// A file as the kernel's lists name it: major and minor number of the device, inode.
type Inode = (u32, u32, u64);

/// CRIU's options for what the container of this first process watches; empty when it watches nothing. Blocking.
pub(super) fn options(init: i32) -> String {
    let wanted: BTreeSet<Inode> = tasks::of_container(init).iter().flat_map(|task| watched(task.pid)).collect();
    if wanted.is_empty() {
        return String::new();
    }
    let mut options = "force-irmap\n".to_owned();
    for path in find(Path::new(&format!("/proc/{init}/root")), wanted) {
        // What cannot be written on a line of CRIU's configuration is left out: its dump then says what is missing.
        if let Some(path) = path.to_str().filter(|path| !path.contains(['"', '\n', '\\'])) {
            let _ = writeln!(options, "irmap-scan-path \"{path}\"");
        }
    }
    options
}

/// What the task's descriptors watch.
fn watched(pid: i32) -> Vec<Inode> {
    let lists = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
    let lists = lists.filter_map(|list| fs::read_to_string(list.path()).ok());
    lists.flat_map(|list| list.lines().filter_map(inode).collect::<Vec<_>>()).collect()
}

/// `inotify wd:1 ino:9e7e sdev:800013 mask:…`, all hexadecimal; the device as the kernel keeps it, 20 bits of minor number.
fn inode(line: &str) -> Option<Inode> {
    let line = line.strip_prefix("inotify ")?;
    let field = |name: &str| {
        let value = line.split_whitespace().find_map(|word| word.strip_prefix(name))?;
        u64::from_str_radix(value, 16).ok()
    };
    let device = u32::try_from(field("sdev:")?).ok()?;
    Some((device >> 20, device & 0xf_ffff, field("ino:")?))
}

/// Walks the tree breadth first, since what is watched is seldom deep, until everything is found; paths begin at `root`.
fn find(root: &Path, mut wanted: BTreeSet<Inode>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut level = vec![PathBuf::from("/")];
    let mut seen = 0;
    while !level.is_empty() && !wanted.is_empty() && seen < MOST {
        let mut next = Vec::new();
        for path in level {
            let place = root.join(path.strip_prefix("/").unwrap_or(&path));
            let Ok(metadata) = fs::symlink_metadata(&place) else { continue };
            seen += 1;
            if wanted.remove(&(major(metadata.dev()), minor(metadata.dev()), metadata.ino())) {
                found.push(path.clone());
            }
            // The kernel's own trees have no end worth reaching.
            if metadata.is_dir() && path != Path::new("/proc") && path != Path::new("/sys") {
                let names =
                    fs::read_dir(&place).into_iter().flatten().flatten().map(|entry| path.join(entry.file_name()));
                next.extend(names);
            }
            if wanted.is_empty() || seen >= MOST {
                break;
            }
        }
        level = next;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_a_device_and_an_inode() {
        let line = "inotify wd:3 ino:9e7e sdev:800013 mask:800afce ignored_mask:0 fhandle-bytes:8";
        assert_eq!(inode(line), Some((8, 0x13, 0x9e7e)));
        for other in ["pos:\t0", "inotify wd:3", "inotify ino:x sdev:1", "eventfd-count: 7"] {
            assert_eq!(inode(other), None, "{other}");
        }
    }

    #[test]
    fn a_watched_file_is_found_in_its_tree() {
        let root = tempfile::tempdir().expect("a folder");
        let deep = root.path().join("srv/app/config");
        fs::create_dir_all(&deep).expect("create");
        fs::write(root.path().join("other"), "").expect("write");
        let metadata = fs::symlink_metadata(&deep).expect("stat");
        let wanted = BTreeSet::from([(major(metadata.dev()), minor(metadata.dev()), metadata.ino())]);
        assert_eq!(find(root.path(), wanted), [PathBuf::from("/srv/app/config")]);
        assert!(find(root.path(), BTreeSet::from([(0, 0, 1)])).is_empty());
    }

    #[test]
    fn what_a_process_watches_is_seen() {
        let pid = i32::try_from(std::process::id()).expect("a PID");
        let watch = rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::CLOEXEC).expect("inotify");
        let folder = tempfile::tempdir().expect("a folder");
        rustix::fs::inotify::add_watch(&watch, folder.path(), rustix::fs::inotify::WatchFlags::CREATE).expect("watch");
        let metadata = fs::symlink_metadata(folder.path()).expect("stat");
        assert!(watched(pid).contains(&(major(metadata.dev()), minor(metadata.dev()), metadata.ino())));
    }
}
