//! runc is started before it is needed, and CRIU waits at a gate until the moment has come (see `fog-stand-in`).
//!
//! Whoever waits there gives up when the gate closes: with this program, or with the value.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};

/// A word over a local socket takes no time.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Where CRIU will come.
#[derive(Debug)]
pub(super) struct Gate(UnixListener);

/// CRIU's stand-in, at the gate.
#[derive(Debug)]
pub(super) struct Waiting(UnixStream);

impl Gate {
    /// Opens one at a path; what was there before is replaced.
    pub(super) fn at(path: &Path) -> std::io::Result<Gate> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        UnixListener::bind(path).map(Gate)
    }

    /// Waits until somebody waits.
    pub(super) async fn reached(&self) -> std::io::Result<Waiting> {
        self.0.accept().await.map(|(stream, _)| Waiting(stream))
    }
}

impl Waiting {
    /// Lets it begin; `say`: lines of the container's log that it says first.
    pub(super) async fn go(mut self, say: Option<&Path>) -> std::io::Result<()> {
        let word = match say {
            Some(say) => format!("{} {}\n", fog_stand_in::GO, say.display()),
            None => format!("{}\n", fog_stand_in::GO),
        };
        tokio::time::timeout(AT_ONCE, self.0.write_all(word.as_bytes())).await?
    }
}

/// This program, also when its file was replaced.
pub(super) fn program() -> std::io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(if program.is_file() { program } else { format!("/proc/{}/exe", std::process::id()).into() })
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn whoever_waits_hears_when_to_go_and_when_not_to() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("gate");
        let gate = Gate::at(&path).expect("a gate");
        let mut heard = String::new();
        let mut client = UnixStream::connect(&path).await.expect("connect");
        gate.reached().await.expect("reached").go(Some(Path::new("/x"))).await.expect("go");
        client.read_to_string(&mut heard).await.expect("read");
        assert_eq!(heard, "go /x\n");
        let mut client = UnixStream::connect(&path).await.expect("connect");
        drop(gate.reached().await.expect("reached"));
        assert_eq!(client.read(&mut [0; 1]).await.expect("read"), 0, "closed");
    }
}
