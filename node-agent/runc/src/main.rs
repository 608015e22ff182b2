//! An OCI runtime that lets Docker start a container by restoring it.
//!
//! ```text
//! docker start
//!   fog-runc create ── asks the agent ──> images            (only where a restore folder exists)
//!     └ supervisor ─ runc restore ─ criu ─ namespaces ─ hook: reports the PID and blocks
//!   fog-runc create writes the PID file and returns; Docker wires the network
//!   fog-runc start  tells the supervisor ─ hook ends ─ criu restores memory and tasks, which stay stopped
//! ```
//!
//! The two phases are there because Docker, from version 28 on, connects the network between `create` and `start`.
//! Every other call becomes the real runc, with its arguments untouched.

mod agent;
mod arguments;
mod bundle;
mod cgroup;
mod create;
mod delete;
mod hook;
mod log;
mod restore_folder;
mod start;
mod supervisor;

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use arguments::{Call, Verb};
use restore_folder::RestoreFolder;

/// The first arguments of our own inner calls. runc has no such verbs.
const HOOK: &str = "fog-hook";
const CLOSE_NETWORK: &str = "fog-close-network";
const SUPERVISE: &str = "fog-supervise";

/// Names the real runc where it is not `runc` in the search path.
const RUNC: &str = "FOG_RUNC_RUNC";

fn main() -> ExitCode {
    if let Some(ended) = fog_stand_in::run() {
        return ended;
    }
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match arguments.first().and_then(|argument| argument.to_str()) {
        Some(HOOK) => return hook::run(&arguments[1..]),
        Some(CLOSE_NETWORK) => return hook::close_network(),
        Some(SUPERVISE) => return supervisor::run(&arguments[1..]),
        _ => {}
    }
    let Some(call) = Call::parse(&arguments) else { return become_runc(&arguments) };
    let Some(folder) = RestoreFolder::of(&call.container) else { return become_runc(&arguments) };
    let done = match call.verb {
        Verb::Create => create::create(&call, &folder),
        Verb::Start => start::start(&call, &folder),
        Verb::Delete => delete::delete(&folder),
    };
    match done {
        Ok(Next::Done) => ExitCode::SUCCESS,
        Ok(Next::Runc) => become_runc(&arguments),
        Err(message) => {
            log::error(call.log.as_deref(), &message);
            ExitCode::FAILURE
        }
    }
}

/// What is left to do.
enum Next {
    /// Nothing.
    Done,
    /// What runc would do.
    Runc,
}

/// The program that stands behind us.
fn runc() -> OsString {
    std::env::var_os(RUNC).unwrap_or_else(|| "runc".into())
}

fn become_runc(arguments: &[OsString]) -> ExitCode {
    let error = Command::new(runc()).args(arguments).exec();
    log::error(None, &format!("{} cannot be run: {error}; install runc or set {RUNC}", runc().to_string_lossy()));
    ExitCode::FAILURE
}
