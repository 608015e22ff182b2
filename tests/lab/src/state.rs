//! What an instance remembers on disk, so that a later `exec`, `ps` or `down` finds what an earlier `up` built,
//! also when that `up` was killed half-way: the record is written before anything it names is created.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::config::{CgroupVersion, Link, Suite, check_name};

const FILE: &str = "state.json";
const DIRECTORY: &str = "/var/lib/fog-lab";

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    pub(crate) pid: i32,
    /// Clock ticks since boot, from /proc/PID/stat.
    pub(crate) started: u64,
}

impl ProcessId {
    /// Reads the identity of a running process; `proc` is `/proc` or a node's view of it.
    pub(crate) fn read(proc: &Path, pid: i32) -> Option<ProcessId> {
        let stat = fs::read_to_string(proc.join(pid.to_string()).join("stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let alive = !matches!(*fields.first()?, "Z" | "X");
        let started = fields.get(19)?.parse().ok()?;
        alive.then_some(ProcessId { pid, started })
    }

    pub(crate) fn is_alive(self, proc: &Path) -> bool {
        ProcessId::read(proc, self.pid) == Some(self)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) instance: String,
    /// Second and third octet of the instance's 10.x.y.0/24.
    pub(crate) subnet: [u8; 2],
    pub(crate) orchestrator_port: u16,
    pub(crate) policy: Option<PathBuf>,
    /// Whether Fogshift's programs belong to this lab.
    pub(crate) programs: bool,
    pub(crate) nodes: Vec<NodeState>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NodeState {
    pub(crate) name: String,
    /// Last octet of the address, 11 and up.
    pub(crate) index: u8,
    pub(crate) suite: Suite,
    pub(crate) rootfs: PathBuf,
    pub(crate) cgroup: CgroupVersion,
    pub(crate) cpus: Option<f64>,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) link: Link,
    pub(crate) booted_earlier: Duration,
    pub(crate) labels: BTreeMap<String, String>,
    /// The node's process number 1, as the machine sees it.
    pub(crate) init: Option<ProcessId>,
}

impl State {
    pub(crate) fn bridge_address(&self) -> String {
        self.address(1)
    }

    pub(crate) fn address(&self, index: u8) -> String {
        format!("10.{}.{}.{index}", self.subnet[0], self.subnet[1])
    }

    pub(crate) fn save(&self, directory: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("cannot write the lab's state as JSON")?;
        let path = directory.join(FILE);
        let fresh = directory.join("state.json.new");
        fs::write(&fresh, text)
            .and_then(|()| fs::rename(&fresh, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// `None` when there is no such instance.
    pub(crate) fn load(directory: &Path) -> Result<Option<State>> {
        let path = directory.join(FILE);
        match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).map(Some).with_context(|| {
                format!("{} is damaged: end the lab with `fog-lab down` and start it again", path.display())
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }
}

/// The folder that holds every instance's folder.
pub(crate) fn base_directory(wanted: Option<&Path>) -> PathBuf {
    match (wanted, std::env::var_os("FOG_LAB_DIR")) {
        (Some(directory), _) => directory.to_owned(),
        (None, Some(directory)) if !directory.is_empty() => PathBuf::from(directory),
        _ => PathBuf::from(DIRECTORY),
    }
}

/// The folder of one instance.
pub(crate) fn instance_directory(base: Option<&Path>, instance: &str) -> Result<PathBuf> {
    check_name("instance", instance, 24)?;
    Ok(base_directory(base).join(instance))
}

/// The names of all instances that have a folder.
pub fn instances() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(base_directory(None))
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().join(FILE).exists())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// The fog-lab program, which plays several parts in a lab (a node's first process, link emulator, burner).
pub(crate) fn program(bin_dir: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("FOG_LAB_PROGRAM") {
        return Ok(PathBuf::from(path));
    }
    let current = std::env::current_exe().context("cannot find out which program is running")?;
    if current.file_name().is_some_and(|name| name == "fog-lab") {
        return Ok(current);
    }
    // A test or bench runs from target/<profile>/deps, beside or below the folder with the programs.
    let candidates =
        bin_dir.into_iter().chain(current.ancestors().skip(1).take(2)).map(|folder| folder.join("fog-lab"));
    for candidate in candidates {
        if candidate.is_file() {
            return Ok(candidate);
        }
    }
    bail!(
        "the program fog-lab is not beside {}: build it with `cargo build -p fog-lab`, or name it in FOG_LAB_PROGRAM",
        current.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_is_alive_and_a_later_one_is_another() {
        let proc = Path::new("/proc");
        let own = ProcessId::read(proc, std::process::id().cast_signed()).expect("own process");
        assert!(own.is_alive(proc));
        assert!(!ProcessId { started: own.started + 1, ..own }.is_alive(proc));
    }

    #[test]
    fn state_survives_the_disk() {
        let folder = tempfile::tempdir().expect("folder");
        assert!(State::load(folder.path()).expect("readable").is_none());
        let state = State {
            instance: "x".to_owned(),
            subnet: [90, 7],
            orchestrator_port: 8080,
            policy: None,
            programs: false,
            nodes: Vec::new(),
        };
        state.save(folder.path()).expect("saved");
        let loaded = State::load(folder.path()).expect("readable").expect("there");
        assert_eq!(loaded.bridge_address(), "10.90.7.1");
        fs::write(folder.path().join(FILE), "{").expect("written");
        assert!(State::load(folder.path()).is_err());
    }
}
