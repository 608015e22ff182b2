//! In CRIU's place until somebody says go.
//!
//! runc calls `criu swrk FD` and sends a request over that descriptor, a socket of whole packets. What comes first is
//! only looked at: a question is for the real CRIU at once, a dump or a restore waits at the gate. The stand-in then
//! *becomes* CRIU, so process, descriptors and cgroups are what runc has prepared.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use serde_json::Value;

/// `criu_req.type` of a dump and of a restore.
const DUMP: u8 = 1;
const RESTORE: u8 = 2;

pub(crate) fn run(arguments: &[OsString]) -> ExitCode {
    let mut passed = false;
    if let (Some(gate), Some(descriptor)) = (std::env::var_os(crate::GATE), request_descriptor(arguments)) {
        match wait(&gate, descriptor) {
            Ok(Gate::Asks) => {}
            Ok(Gate::Go) => passed = true,
            Ok(Gate::Closed) => return ExitCode::FAILURE,
            Err(error) => {
                eprintln!("Error: nobody let CRIU begin: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    crate::become_real("criu", arguments, passed)
}

/// What is to become of a call.
enum Gate {
    /// It only asks something.
    Asks,
    /// It was let go.
    Go,
    /// It is not to begin at all.
    Closed,
}

fn request_descriptor(arguments: &[OsString]) -> Option<RawFd> {
    match arguments {
        [verb, descriptor] if verb == "swrk" => descriptor.to_str()?.parse().ok(),
        _ => None,
    }
}

fn wait(gate: &OsStr, descriptor: RawFd) -> io::Result<Gate> {
    let kind = requested(descriptor)?;
    if !matches!(kind, Some(DUMP | RESTORE)) {
        return Ok(Gate::Asks);
    }
    let mut stream = UnixStream::connect(gate)?;
    stream.write_all(b"here\n")?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    let Some(say) = line.trim_end().strip_prefix(crate::GO) else { return Ok(Gate::Closed) };
    if let Some(file) = Some(say.trim_start()).filter(|file| !file.is_empty()) {
        say_lines(Path::new(file))?;
    }
    Ok(Gate::Go)
}

/// Says what the container said between its log's last line and the freeze, as lines of Docker's `json-file` log:
/// standard output and error are the container's.
fn say_lines(file: &Path) -> io::Result<()> {
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    for line in std::fs::read_to_string(file)?.lines() {
        let Ok(entry) = serde_json::from_str::<Value>(line) else { continue };
        let text = entry.get("log").and_then(Value::as_str).unwrap_or_default();
        match entry.get("stream").and_then(Value::as_str) {
            Some("stderr") => err.write_all(text.as_bytes())?,
            _ => out.write_all(text.as_bytes())?,
        }
    }
    out.flush()
}

/// The kind of the first request, which stays where it is.
fn requested(descriptor: RawFd) -> io::Result<Option<u8>> {
    // SAFETY: runc has opened it for us and named it on the command line; nothing here closes it.
    #[allow(unsafe_code)]
    let socket = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let mut begin = [0; 2];
    loop {
        match recv(socket, &mut begin, RecvFlags::PEEK) {
            Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((count, _)) => return Ok(kind(&begin[..count])),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => drop(poll(&mut [PollFd::new(&socket, PollFlags::IN)], None)),
            Err(error) => return Err(error.into()),
        }
    }
}

/// `criu_req` begins with its type: field 1, a number.
fn kind(begin: &[u8]) -> Option<u8> {
    match begin {
        [0x08, kind, ..] => Some(*kind),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_its_kind_first() {
        assert_eq!(kind(&[8, 1]), Some(DUMP));
        assert_eq!(kind(&[8, 10]), Some(10));
        assert_eq!(kind(&[18, 1]), None);
        assert_eq!(kind(&[]), None);
    }

    #[test]
    fn only_a_worker_waits() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert_eq!(request_descriptor(&words("swrk 3")), Some(3));
        assert_eq!(request_descriptor(&words("check")), None);
        assert_eq!(request_descriptor(&words("swrk x")), None);
    }
}
