//! A folder that paths cannot lead out of: not through `..`, not through links, not into what is mounted in it.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

/// The folder.
#[derive(Debug)]
pub struct Root(OwnedFd);

impl Root {
    /// Opens it. The path itself is trusted.
    pub fn open(path: &Path) -> io::Result<Root> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Root(openat(CWD, path, flags, Mode::empty())?))
    }

    /// A handle on what is at the path, a symbolic link included; not opened for reading yet.
    pub fn entry(&self, path: &Path) -> io::Result<OwnedFd> {
        self.resolve(path, OFlags::NOFOLLOW)
    }

    /// A handle on the folder that the path's last name is in, and that name.
    pub fn parent<'a>(&self, path: &'a Path) -> io::Result<(OwnedFd, &'a OsStr)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.resolve(path.parent().unwrap_or(Path::new("")), OFlags::DIRECTORY)?, name))
    }

    fn resolve(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let inside =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        loop {
            match openat2(&self.0, path, OFlags::PATH | OFlags::CLOEXEC | flags, Mode::empty(), inside) {
                // A rename elsewhere in the system got in between.
                Err(rustix::io::Errno::AGAIN) => {}
                done => return Ok(done?),
            }
        }
    }
}

/// The path under which the system finds a handle again.
pub(super) fn again(handle: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()))
}

/// Opens what a handle stands for. Only for regular files and folders: opening a fifo or a device does something.
pub(super) fn reopen(handle: &OwnedFd) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOATIME;
    match openat(CWD, again(handle), flags, Mode::empty()) {
        Err(rustix::io::Errno::PERM) => File::open(again(handle)),
        opened => Ok(opened?.into()),
    }
}

/// Whether this means that there is nothing at a path.
pub(super) fn is_nothing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let nothing = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| nothing.contains(&code))
}
