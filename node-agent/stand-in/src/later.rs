//! The library of `preload/`, from memory: nothing has to be installed, and nothing stays.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{MemfdFlags, memfd_create};

/// Names the folder where it writes down what it hid; without it CRIU starts without it.
pub const LATER: &str = "FOG_LATER";

static LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/fog_later.so"));

/// What CRIU's environment needs for it, and the file, which must stay open until CRIU has begun.
pub(crate) fn library() -> io::Result<((&'static OsStr, OsString), OwnedFd)> {
    // It is inherited.
    let file = memfd_create("fog_later.so", MemfdFlags::empty())?;
    let mut file = File::from(file);
    file.write_all(LIBRARY)?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(((OsStr::new("LD_PRELOAD"), path.into()), file.into()))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn it_loads_and_leaves_the_environment() {
        let ((name, path), _file) = library().expect("a library");
        // What `sh` is told by its loader is on its standard error.
        let shell = Command::new("/bin/sh").args(["-c", "echo ${LD_PRELOAD:-none}"]).env(name, path).output();
        let output = shell.expect("a shell");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "none\n");
    }
}
