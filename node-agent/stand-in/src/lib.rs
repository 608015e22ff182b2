//! Two programs that are called while a container stands still, and what stands in for them.
//!
//! * `criu`: runc is started while the container still runs. All that it does before it hands its request to CRIU then
//!   costs no downtime: its own start, its questions for CRIU's version and features, the mount points, the cgroups. The
//!   stand-in takes CRIU's place until somebody says go, and then becomes CRIU ([`criu`]).
//! * `tar`: CRIU packs each tmpfs of a container with tar, a shell and gzip. That takes 5 ms to 8 ms for each, most of it
//!   for starting processes, and a container of Docker has three or more ([`tar`]).
//!
//! Where memory travels by itself, CRIU also gets a library that hides large memory from it ([`later`]).
//!
//! Both are found by name: a folder with links to the program that calls [`run`] comes first in the search path.

mod archive;
mod criu;
mod later;
#[path = "../preload/mapping.rs"]
pub mod mapping;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

pub use later::LATER;

/// Names the socket where the stand-in for CRIU waits for a word. Without it CRIU starts at once; whoever was let go does
/// not have it any more.
pub const GATE: &str = "FOG_CRIU_GATE";

/// Names the folder with the links.
const FOLDER: &str = "FOG_STAND_IN";

/// What the other end of the gate says.
pub const GO: &str = "go";

/// What stands in for others, if this program was called by their name.
pub fn run() -> Option<ExitCode> {
    let mut words = std::env::args_os();
    let name = words.next()?;
    let arguments: Vec<OsString> = words.collect();
    match Path::new(&name).file_name()?.to_str()? {
        "criu" => Some(criu::run(&arguments)),
        "tar" => Some(archive::run(&arguments)),
        _ => None,
    }
}

/// Makes the folder with the links; what a command needs in its environment to use it.
pub fn prepare(folder: &Path, program: &Path) -> io::Result<[(&'static str, OsString); 2]> {
    std::fs::create_dir_all(folder)?;
    for name in ["criu", "tar"] {
        let link = folder.join(name);
        match std::os::unix::fs::symlink(program, &link) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
    }
    let known = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin".into());
    let mut path = folder.as_os_str().to_owned();
    path.push(":");
    path.push(known);
    Ok([("PATH", path), (FOLDER, folder.into())])
}

/// Becomes the real program; returns only when that fails.
fn become_real(name: &str, arguments: &[OsString], passed: bool) -> ExitCode {
    let own = std::env::var_os(FOLDER).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let Some(program) = find(name, &path, own.as_deref()) else {
        eprintln!("Error: {name} is not installed, or not in the search path");
        return ExitCode::from(127);
    };
    let mut command = Command::new(&program);
    let mut file = None;
    if passed {
        command.env_remove(GATE);
        if std::env::var_os(LATER).is_some() {
            match later::library() {
                Ok(((name, path), library)) => {
                    command.env(name, path);
                    file = Some(library);
                }
                // It takes longer then, that is all.
                Err(error) => eprintln!("Warning: no memory can be hidden from CRIU: {error}"),
            }
        }
    }
    let error = command.args(arguments).exec();
    drop(file);
    eprintln!("Error: {} cannot be run: {error}", program.display());
    ExitCode::from(126)
}

fn find(name: &str, path: &OsStr, without: Option<&Path>) -> Option<PathBuf> {
    let mut folders = std::env::split_paths(path).filter(|folder| Some(folder.as_path()) != without);
    folders.find_map(|folder| Some(folder.join(name)).filter(|program| program.is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_the_links_is_passed_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let (own, real) = (folder.path().join("own"), folder.path().join("real"));
        let set = prepare(&own, Path::new("/bin/true")).expect("links");
        prepare(&own, Path::new("/bin/true")).expect("a second time");
        assert!(set[0].1.to_string_lossy().starts_with(&*own.to_string_lossy()));
        std::fs::create_dir(&real).expect("a folder");
        std::fs::write(real.join("tar"), "").expect("a program");
        let path = std::env::join_paths([&own, &real]).expect("a path");
        assert_eq!(find("tar", &path, Some(&own)), Some(real.join("tar")));
        assert_eq!(find("tar", &path, None), Some(own.join("tar")));
        assert_eq!(find("criu", &path, Some(&own)), None);
    }
}
