//! The process between `create` and `start`: runs `runc restore` and carries its hook, its end and the calls from
//! outside to each other.
//!
//! One thread waits for runc, one takes connections, one a connection waits for its first line; the main thread puts
//! it all in order. When the supervisor dies, the hook's connection breaks, the hook fails, and runc gives the restore
//! up: nothing can start without it.
//!
//! Where nothing in the images depends on the network, CRIU goes on while Docker still wires it: the tasks it restores
//! stay stopped. The supervisor keeps the result until `start` or `delete` comes for it.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, ExitCode};
use std::sync::mpsc::{Sender, channel};

use crate::restore_folder::RestoreFolder;

/// What happens.
enum Event {
    /// The hook runs; its connection, held open, keeps it blocked.
    Hook { pid: u32, stream: UnixStream },
    /// Docker wants the container started.
    Start(UnixStream),
    /// Docker wants it gone.
    Abort(UnixStream),
    /// `runc restore` ended.
    Ended { code: i32 },
}

pub(crate) fn run(arguments: &[OsString]) -> ExitCode {
    let [folder, program, arguments @ ..] = arguments else { return ExitCode::FAILURE };
    let folder = RestoreFolder::at(folder.into());
    match supervise(&folder, program, arguments) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(message) => {
            report(&folder, &message);
            ExitCode::FAILURE
        }
    }
}

fn supervise(folder: &RestoreFolder, program: &OsString, arguments: &[OsString]) -> Result<i32, String> {
    let socket = folder.supervisor_socket();
    std::fs::remove_file(&socket).ok();
    let listener =
        UnixListener::bind(&socket).map_err(|error| format!("{} cannot be made: {error}", socket.display()))?;
    let mut restore = Command::new(program)
        .args(arguments)
        .spawn()
        .map_err(|error| format!("{} cannot be run: {error}", program.to_string_lossy()))?;
    let (sender, events) = channel();
    let ended = sender.clone();
    std::thread::spawn(move || {
        let code = restore.wait().ok().and_then(|status| status.code()).unwrap_or(1);
        ended.send(Event::Ended { code }).ok();
    });
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let sender = sender.clone();
            std::thread::spawn(move || introduce(stream, &sender));
        }
    });

    let mut hook: Option<UnixStream> = None;
    let mut waiting: Vec<UnixStream> = Vec::new();
    let mut code = None;
    let mut reported = false;
    // Whoever comes for the result comes once the namespaces were reported, and not if they never were.
    while code.is_none() || (reported && waiting.is_empty()) {
        match events.recv().map_err(|_| "all threads ended")? {
            Event::Hook { pid, mut stream } => {
                // The agent knows by now: it has let CRIU begin.
                if !folder.is_wired_first() {
                    stream.write_all(b"go\n").ok();
                }
                hook = Some(stream);
                reported = true;
                report(folder, &format!("pid {pid}"));
            }
            Event::Start(stream) => {
                if let Some(mut hook) = hook.take() {
                    hook.write_all(b"go\n").ok();
                }
                waiting.push(stream);
            }
            Event::Abort(stream) => {
                // The hook reads the end of its connection and fails.
                hook = None;
                waiting.push(stream);
            }
            Event::Ended { code: ended } => code = Some(ended),
        }
    }
    let code = code.unwrap_or(1);
    std::fs::remove_file(&socket).ok();
    for mut stream in waiting {
        stream.write_all(format!("exit {code}\n").as_bytes()).ok();
    }
    if !reported {
        report(folder, &format!("runc restore ended with status {code} before the container had its namespaces"));
    }
    Ok(code)
}

/// The first line of a connection says who it is.
fn introduce(stream: UnixStream, sender: &Sender<Event>) {
    let mut line = String::new();
    let Ok(reader) = stream.try_clone() else { return };
    if BufReader::new(reader).read_line(&mut line).is_err() {
        return;
    }
    let event = match line.trim_end().split_once(' ') {
        Some(("hook", pid)) => pid.parse().ok().map(|pid| Event::Hook { pid, stream }),
        _ if line == "start\n" => Some(Event::Start(stream)),
        _ if line == "abort\n" => Some(Event::Abort(stream)),
        _ => None,
    };
    if let Some(event) = event {
        sender.send(event).ok();
    }
}

/// Tells `create`, as long as it waits.
fn report(folder: &RestoreFolder, line: &str) {
    if let Ok(mut stream) = UnixStream::connect(folder.report_socket()) {
        stream.write_all(format!("{line}\n").as_bytes()).ok();
    }
}
