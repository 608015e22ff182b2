//! Source: `docker pause`, and the moment from which on nothing runs any more.
//!
//! Docker must know that the container is paused: it then answers `docker stop` and `exec` as users expect, and recovery
//! finds it so. But Docker's answer comes long after the kernel has frozen the last task, and the dump need not wait for
//! it. So the kernel is watched, and Docker's answer is taken while the dump is already at work.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::tasks;
use crate::runtime::{Docker, DockerError};

const LOOK: Duration = Duration::from_micros(300);

/// The kernel freezes and thaws at once; a busy node shows it later.
const TURNS: Duration = Duration::from_secs(5);

/// A pause whose answer may be outstanding. It must be waited for: dropped, it would still take place.
#[must_use]
pub(super) struct Pausing(JoinHandle<Result<(), DockerError>>);

impl Pausing {
    /// Begins to pause; returns as soon as every task is frozen, or when Docker has answered.
    pub(super) async fn begin(docker: &Docker, container: &str, init: Option<i32>) -> Pausing {
        let state = init.and_then(|init| state_file(&tasks::cgroup(init), Path::new("/sys/fs/cgroup")));
        let (docker, container) = (docker.clone(), container.to_owned());
        let pausing = tokio::spawn(async move { docker.pause(&container).await });
        if let Some(state) = state {
            while !pausing.is_finished() && !std::fs::read_to_string(&state).is_ok_and(|text| is_frozen(&text)) {
                tokio::time::sleep(LOOK).await;
            }
            Pausing(pausing)
        } else {
            let answer = pausing.await;
            Pausing(tokio::spawn(async move { flatten(answer) }))
        }
    }

    /// Waits for Docker's answer.
    pub(super) async fn end(self) -> Result<(), DockerError> {
        flatten(self.0.await)
    }
}

/// Whether the kernel still holds the cgroup of a process frozen; `None` where that cannot be seen. Blocking.
pub(super) fn is_still_frozen(init: i32) -> Option<bool> {
    let state = state_file(&tasks::cgroup(init), Path::new("/sys/fs/cgroup"))?;
    std::fs::read_to_string(state).ok().map(|text| is_frozen(&text))
}

/// Thaws what the kernel holds frozen; false: it still does. Blocking.
pub(super) fn melt(init: i32) -> bool {
    state_file(&tasks::cgroup(init), Path::new("/sys/fs/cgroup")).is_none_or(|state| turn(&state, false))
}

/// Freezes what the kernel has thawed, for Docker to thaw it: runc refuses to where nothing is frozen. False: it still
/// is thawed. Blocking.
pub(super) fn again(init: i32) -> bool {
    state_file(&tasks::cgroup(init), Path::new("/sys/fs/cgroup")).is_none_or(|state| turn(&state, true))
}

fn turn(state: &Path, frozen: bool) -> bool {
    let (file, words) = match state.file_name().is_some_and(|name| name == "freezer.state") {
        true => (state.to_owned(), ["THAWED", "FROZEN"]),
        false => (state.with_file_name("cgroup.freeze"), ["0", "1"]),
    };
    let is_so = || std::fs::read_to_string(state).is_ok_and(|text| is_frozen(&text)) == frozen;
    is_so() || (std::fs::write(file, words[usize::from(frozen)]).is_ok() && tasks::wait_until(TURNS, is_so))
}

fn flatten(answer: Result<Result<(), DockerError>, tokio::task::JoinError>) -> Result<(), DockerError> {
    answer.unwrap_or_else(|error| Err(DockerError::Unreachable(format!("the question was lost: {error}"))))
}

/// Where the kernel says whether the cgroup of a process is frozen, if it is where it usually is.
fn state_file(cgroup: &str, mounted: &Path) -> Option<PathBuf> {
    let freezer = |line: &str| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        controllers.split(',').any(|controller| controller == "freezer").then(|| path.to_owned())
    };
    let below = |folder: &Path, path: &str, file: &str| folder.join(path.trim_start_matches('/')).join(file);
    let first = cgroup.lines().find_map(freezer);
    let first = first.map(|path| below(&mounted.join("freezer"), &path, "freezer.state"));
    let second = cgroup.lines().find_map(|line| line.strip_prefix("0::"));
    let second = second.map(|path| below(mounted, path, "cgroup.events"));
    first.into_iter().chain(second).find(|file| file.is_file())
}

/// `freezer.state` of cgroup v1 or `cgroup.events` of v2.
fn is_frozen(text: &str) -> bool {
    text.lines().any(|line| matches!(line, "FROZEN" | "frozen 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words() {
        assert!(is_frozen("FROZEN\n") && is_frozen("populated 1\nfrozen 1\n"));
        assert!(!is_frozen("FREEZING\n") && !is_frozen("THAWED\n") && !is_frozen("populated 1\nfrozen 0\n"));
    }

    #[test]
    fn frozen_and_thawed_as_the_first_layout_has_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("freezer.state");
        let reads = |word: &str| std::fs::read_to_string(&state).is_ok_and(|text| text == word);
        std::fs::write(&state, "THAWED").expect("write");
        assert!(turn(&state, true) && reads("FROZEN"));
        assert!(turn(&state, false) && reads("THAWED"));
    }

    #[test]
    fn the_file_of_both_layouts() {
        let folder = tempfile::tempdir().expect("a folder");
        let make = |file: &str| {
            let file = folder.path().join(file);
            std::fs::create_dir_all(file.parent().expect("a parent")).expect("create");
            std::fs::write(&file, "").expect("write");
            file
        };
        let cgroup = "7:cpu,cpuacct:/x\n3:freezer:/docker/a\n0::/docker/a\n";
        assert_eq!(state_file(cgroup, folder.path()), None);
        let unified = make("docker/a/cgroup.events");
        assert_eq!(state_file(cgroup, folder.path()), Some(unified));
        let first = make("freezer/docker/a/freezer.state");
        assert_eq!(state_file(cgroup, folder.path()), Some(first));
    }
}
