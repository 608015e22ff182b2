//! `start`: the second phase. Returns runc restore's result.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use crate::arguments::Call;
use crate::restore_folder::RestoreFolder;
use crate::{Next, log};

pub(crate) fn start(call: &Call, folder: &RestoreFolder) -> Result<Next, String> {
    // No supervisor: the container was created by runc, and runc starts it.
    let Ok(stream) = UnixStream::connect(folder.supervisor_socket()) else { return Ok(Next::Runc) };
    match tell(stream, "start\n") {
        Some(0) => Ok(Next::Done),
        Some(code) => {
            let said = log::last_error(call.log.as_deref());
            Err(format!("runc restore ended with status {code}{said}"))
        }
        None => Err("the supervisor of the restore ended".into()),
    }
}

/// Says something to the supervisor and waits for the exit status of `runc restore`.
pub(crate) fn tell(mut stream: UnixStream, word: &str) -> Option<i32> {
    stream.write_all(word.as_bytes()).ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    line.trim_end().strip_prefix("exit ")?.parse().ok()
}
