//! The createRuntime hook: runs when the restored container's namespaces exist and nothing else of it does.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use serde::Deserialize;

use crate::restore_folder::RestoreFolder;

/// The part of the OCI state that matters.
#[derive(Deserialize)]
struct State {
    pid: u32,
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

fn block(folder: &RestoreFolder) -> std::io::Result<bool> {
    let state: State = serde_json::from_reader(std::io::stdin().lock())?;
    let mut stream = UnixStream::connect(folder.supervisor_socket())?;
    stream.write_all(format!("hook {}\n", state.pid).as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line == "go\n")
}
