//! The createRuntime hook: runs when the restored container's namespaces exist and nothing else of it does.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::Deserialize;
use serde_json::Value;

use crate::restore_folder::RestoreFolder;

/// The part of the OCI state that matters.
#[derive(Deserialize)]
struct State {
    pid: u32,
    bundle: PathBuf,
}

/// Reports the PID to the supervisor and blocks until it says go.
pub(crate) fn run(arguments: &[OsString]) -> ExitCode {
    let [folder] = arguments else { return ExitCode::FAILURE };
    match block(&RestoreFolder::at(folder.into())) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("fog-runc: the restore was given up");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("fog-runc: the restore lost its supervisor: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The prestart hook of a container whose connections are kept: closes its network before there is anything in it.
pub(crate) fn close_network() -> ExitCode {
    let state: std::io::Result<State> = serde_json::from_reader(std::io::stdin().lock()).map_err(Into::into);
    match state.and_then(|state| fog_netns::close(state.pid)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fog-runc: the network could not be closed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What runc sets in a network namespace that it makes, and CRIU does not in one that it leaves empty.
fn network_sysctls(config: &Value) -> Vec<(PathBuf, String)> {
    let all = config.pointer("/linux/sysctl").and_then(Value::as_object).into_iter().flatten();
    let network = all.filter(|(name, _)| name.starts_with("net.") && !name.contains('/'));
    let set = network.filter_map(|(name, value)| Some((name.replace('.', "/").into(), value.as_str()?.to_owned())));
    set.collect()
}

fn set_sysctls(pid: u32, sysctls: &[(PathBuf, String)]) -> std::io::Result<()> {
    if sysctls.is_empty() {
        return Ok(());
    }
    let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    for (name, value) in sysctls {
        let written = std::fs::write(Path::new("/proc/sys").join(name), value);
        written.map_err(|error| std::io::Error::other(format!("sysctl {}: {error}", name.display())))?;
    }
    Ok(())
}

fn block(folder: &RestoreFolder) -> std::io::Result<bool> {
    let state: State = serde_json::from_reader(std::io::stdin().lock())?;
    let config: Value = serde_json::from_slice(&std::fs::read(state.bundle.join("config.json"))?)?;
    // Last of all: from here on this process is in the container's network.
    set_sysctls(state.pid, &network_sysctls(&config))?;
    let mut stream = UnixStream::connect(folder.supervisor_socket())?;
    stream.write_all(format!("hook {}\n", state.pid).as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line == "go\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_networks_sysctls_are_set() {
        let config = serde_json::json!({"linux": {"sysctl": {
            "net.ipv4.ip_unprivileged_port_start": "0", "kernel.shmmax": "1", "net.x/../../y": "1",
        }}});
        let expected = (PathBuf::from("net/ipv4/ip_unprivileged_port_start"), "0".to_owned());
        assert_eq!(network_sysctls(&config), [expected]);
        assert!(network_sysctls(&serde_json::json!({})).is_empty());
    }
}
