//! The container's log, so that `docker logs` at the destination begins with the history.
//!
//! Only Docker's json-file driver keeps a file that can be continued elsewhere; other drivers send lines away as
//! they come. The files travel in two parts. The history, up to shortly before the freeze, is put in place before
//! Docker opens the new container's log, since Docker remembers how long the file was then. What the container
//! said between that and the freeze, the tail, is said once more by fog-runc into the new container's own
//! standard output and error, just before the tasks come back.

use std::io::{Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::tasks::wait_until;
use crate::journal::create_private_folder;
use crate::transfer::{Kind, Outgoing, TransferError};

/// Rotated files carry numbers; more than this nobody keeps.
const MOST_ROTATED: u32 = 1000;

/// A tail longer than this is cut at its beginning.
const LONGEST_TAIL: u64 = 256 << 20;

/// The log file's name in the stream.
const CURRENT: &str = "current";

/// How much of the log has been sent.
#[derive(Debug)]
pub(super) struct Console {
    path: PathBuf,
    inode: u64,
    offset: u64,
}

impl Console {
    /// The log of a container, if its driver keeps one that can be continued.
    pub(super) fn of(inspect: &Value) -> Option<PathBuf> {
        let driver = inspect.pointer("/HostConfig/LogConfig/Type").and_then(Value::as_str);
        let path = inspect.get("LogPath").and_then(Value::as_str).filter(|path| !path.is_empty());
        path.filter(|_| driver == Some("json-file")).map(PathBuf::from)
    }

    /// Sends all whole lines there are, rotated files first.
    pub(super) async fn send_history(path: &Path, outgoing: &mut Outgoing) -> Result<Console, TransferError> {
        let rotated: Vec<(String, PathBuf)> = rotated(path).collect();
        for (name, file) in rotated {
            outgoing.send_file(Kind::History, &name, &file, |_| {}).await?;
        }
        let (file, inode, offset) = match open_whole_lines(path) {
            Ok(opened) => opened,
            Err(error) => return Err(TransferError::File(format!("{} cannot be read: {error}", path.display()))),
        };
        let content = tokio::io::AsyncReadExt::take(tokio::fs::File::from_std(file), offset);
        outgoing.send(Kind::History, CURRENT, content, |_| {}).await?;
        Ok(Console { path: path.to_owned(), inode, offset })
    }

    /// What came after the history. Blocking.
    pub(super) fn tail(&self) -> std::io::Result<Vec<u8>> {
        let mut tail = Vec::new();
        let mut file = std::fs::File::open(&self.path)?;
        let mut offset = self.offset;
        if file.metadata()?.ino() != self.inode {
            // Rotated meanwhile: the rest of the old file, then all of the new one.
            let mut old = std::fs::File::open(numbered(&self.path, 1, ""))?;
            if old.metadata()?.ino() == self.inode {
                old.seek(SeekFrom::Start(offset))?;
                old.take(LONGEST_TAIL).read_to_end(&mut tail)?;
            }
            offset = 0;
        }
        file.seek(SeekFrom::Start(offset))?;
        file.take(LONGEST_TAIL).read_to_end(&mut tail)?;
        Ok(tail)
    }
}

/// Opens the log; the length returned ends with a whole line.
fn open_whole_lines(path: &Path) -> std::io::Result<(std::fs::File, u64, u64)> {
    let mut file = std::fs::File::open(path)?;
    let metadata = file.metadata()?;
    let mut end = metadata.len();
    while end > 0 {
        let begin = end.saturating_sub(64 << 10);
        let mut block = Vec::new();
        file.seek(SeekFrom::Start(begin))?;
        Read::by_ref(&mut file).take(end - begin).read_to_end(&mut block)?;
        match block.iter().rposition(|byte| *byte == b'\n') {
            Some(at) => {
                end = begin + at as u64 + 1;
                break;
            }
            None => end = begin,
        }
    }
    file.seek(SeekFrom::Start(0))?;
    Ok((file, metadata.ino(), end))
}

fn numbered(path: &Path, number: u32, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}.{number}{suffix}", path.display()))
}

/// The rotated files next to a log, oldest first, with the names they travel under.
fn rotated(path: &Path) -> impl Iterator<Item = (String, PathBuf)> {
    let mut found = Vec::new();
    for number in 1..=MOST_ROTATED {
        let file = [(String::new(), "plain"), (".gz".to_owned(), "gz")].into_iter().find_map(|(suffix, kind)| {
            let file = numbered(path, number, &suffix);
            file.is_file().then(|| (format!("rotated-{number}-{kind}"), file))
        });
        match file {
            Some(file) => found.push(file),
            None => break,
        }
    }
    found.into_iter().rev()
}

/// Puts the history in place of a container's log that Docker has not opened yet. Blocking.
pub(super) fn place_history(received: &Path, log: &Path) -> std::io::Result<()> {
    let history = received.join(Kind::History.folder());
    let Ok(files) = super::images::list(&history) else { return Ok(()) };
    if let Some(folder) = log.parent() {
        create_private_folder(folder)?;
    }
    for (name, file, _) in files {
        let place = match name.strip_prefix("rotated-").and_then(|name| name.split_once('-')) {
            Some((number, kind)) => {
                let number = number.parse().map_err(|_| std::io::Error::other("a rotated log without a number"))?;
                numbered(log, number, if kind == "gz" { ".gz" } else { "" })
            }
            None => log.to_owned(),
        };
        let mut options = std::fs::OpenOptions::new();
        let mut place = options.write(true).create(true).truncate(true).mode(0o640).open(place)?;
        std::io::copy(&mut std::fs::File::open(&file)?, &mut place)?;
        std::fs::remove_file(&file)?;
    }
    Ok(())
}

/// The tail that came with a stream, if there is one.
pub(super) fn received_tail(received: &Path) -> Option<PathBuf> {
    let tail = received.join(Kind::Tail.folder()).join(CURRENT);
    tail.metadata().is_ok_and(|metadata| metadata.len() > 0).then_some(tail)
}

/// Sends what came after the history.
pub(super) async fn send_tail(tail: Vec<u8>, outgoing: &mut Outgoing) -> Result<(), TransferError> {
    outgoing.send(Kind::Tail, CURRENT, std::io::Cursor::new(tail), |_| {}).await
}

/// Waits until Docker has read everything that the frozen container wrote: its own pipes and then Docker's must be
/// empty, and the log must have stopped growing. Bounded: a stuck reader must not keep the container frozen.
/// Blocking.
pub(super) fn wait_until_read(init: i32, container: &str, log: &Path) {
    let mut pipes: Vec<PathBuf> = [1, 2].map(|number| PathBuf::from(format!("/proc/{init}/fd/{number}"))).to_vec();
    let folder = Path::new("/run/docker/containerd").join(container);
    for name in ["stdout", "stderr"] {
        pipes.push(folder.join(format!("{container}-{name}")));
        pipes.push(folder.join(format!("init-{name}")));
    }
    let length = || log.metadata().map(|metadata| metadata.len()).unwrap_or_default();
    let mut before = length();
    let mut quiet = 0;
    wait_until(Duration::from_secs(2), || {
        let now = length();
        let is_quiet = pipes.iter().all(|pipe| unread(pipe) == 0) && now == before;
        quiet = if is_quiet { quiet + 1 } else { 0 };
        before = now;
        quiet >= 3
    });
}

/// Bytes that wait in a pipe. Looking does not take them.
fn unread(pipe: &Path) -> u64 {
    use std::os::unix::fs::FileTypeExt;
    if !pipe.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo()) {
        return 0;
    }
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let opened = std::fs::OpenOptions::new().read(true).custom_flags(nonblocking).open(pipe);
    opened.ok().and_then(|pipe| rustix::io::ioctl_fionread(pipe.as_fd()).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_ends_with_a_whole_line_and_the_tail_is_the_rest() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        std::fs::write(&path, "one\ntwo\nthr").expect("write");
        let (_, inode, offset) = open_whole_lines(&path).expect("open");
        assert_eq!(offset, 8);
        std::fs::write(&path, "one\ntwo\nthree\n").expect("write");
        let console = Console { path: path.clone(), inode, offset };
        assert_eq!(console.tail().expect("tail"), b"three\n");

        std::fs::rename(&path, folder.path().join("log.1")).expect("rename");
        std::fs::write(&path, "four\n").expect("write");
        assert_eq!(console.tail().expect("tail"), b"three\nfour\n");
    }

    #[test]
    fn one_endless_line_is_no_history() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        std::fs::write(&path, "x".repeat(200_000)).expect("write");
        assert_eq!(open_whole_lines(&path).expect("open").2, 0);
    }

    #[test]
    fn rotated_files_travel_and_arrive() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("a.log");
        std::fs::write(folder.path().join("a.log.1"), "1").expect("write");
        std::fs::write(folder.path().join("a.log.2.gz"), "2").expect("write");
        let names: Vec<_> = rotated(&log).map(|(name, _)| name).collect();
        assert_eq!(names, ["rotated-2-gz", "rotated-1-plain"]);

        let received = folder.path().join("received");
        let history = received.join("history");
        create_private_folder(&history).expect("folder");
        for name in ["current", "rotated-1-plain", "rotated-2-gz"] {
            std::fs::write(history.join(name), name).expect("write");
        }
        let log = folder.path().join("new").join("b.log");
        place_history(&received, &log).expect("place");
        assert_eq!(std::fs::read_to_string(&log).expect("read"), "current");
        assert_eq!(std::fs::read_to_string(numbered(&log, 1, "")).expect("read"), "rotated-1-plain");
        assert_eq!(std::fs::read_to_string(numbered(&log, 2, ".gz")).expect("read"), "rotated-2-gz");
        assert_eq!(received_tail(&received), None);
    }
}
