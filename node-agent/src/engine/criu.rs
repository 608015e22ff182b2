//! What CRIU leaves behind: its logs, in plain words, and the state of each task in its images.

use std::io::Read;
use std::path::Path;

/// Lines of a log that go into an answer.
const LOG_LINES: usize = 20;

/// CRIU's complaints and what they mean. The first that matches wins.
const MEANINGS: &[(&str, &str)] = &[
    ("Connected TCP socket", "A TCP connection was made at the very moment of the freeze; try again."),
    ("--tcp-established", "A TCP connection was made at the very moment of the freeze; try again."),
    ("--ext-unix-sk", "The container has a Unix socket connected to a process outside of it."),
    ("unix: External", "The container has a Unix socket connected to a process outside of it."),
    ("No space left", "The images do not fit into the tmpfs that holds them; make it larger."),
    ("ENOSPC", "The images do not fit into the tmpfs that holds them; make it larger."),
    ("tty:", "A process in the container holds a terminal that belongs to somebody outside of it."),
    ("sockets: Can't get 1:", "This node's CRIU is too old for its kernel's sockets; install CRIU 4.2 or newer."),
    (
        "Can't get rlimit",
        "A process in the container is not root's, and this node's root lacks CAP_SYS_RESOURCE to read its limits.",
    ),
    (
        "fsnotify",
        "A process in the container watches (inotify or fanotify) what cannot be found in the container any more, such as a \
         deleted file; it has to give that up first.",
    ),
    ("docker-init", "The container has Docker's init process, which CRIU cannot restore; create it without --init."),
    ("io_uring", "A process in the container uses io_uring, which CRIU cannot dump."),
    ("Can't dump file", "A process in the container has a device or special file open that CRIU cannot dump."),
    ("netlink", "A process in the container has a netlink socket in use that CRIU cannot dump."),
    ("packet socket", "A process in the container has a packet socket in use that CRIU cannot dump."),
    ("doesn't have a proper root mount", "A mount in the container comes from outside of it."),
    ("freezer", "A process that does not descend from the container's first one runs in it, such as `docker exec`."),
    ("cpu: ", "This node's CPU lacks features that the images need."),
    (
        "session leader of",
        "A process in the container belongs to a session from outside of it, such as that of `docker exec`; end it, or start it \
         with setsid.",
    ),
    (
        "ghost file",
        "A process in the container has a deleted file open that is larger than 256 MiB; put `ghost-limit SIZE` into \
         /etc/criu/runc.conf on this node.",
    ),
    ("File lock", "A process in the container holds a file lock that cannot be carried over."),
];

/// What went wrong, in plain words, if the log's errors are known ones.
pub(super) fn meaning(log: &[String]) -> Option<&'static str> {
    let errors: Vec<&String> = log.iter().filter(|line| line.contains("Error")).collect();
    MEANINGS.iter().find(|(words, _)| errors.iter().any(|line| line.contains(words))).map(|(_, meaning)| *meaning)
}

/// The errors of a log and its last lines; empty when there is no log.
pub(super) fn last_lines(log: &Path) -> Vec<String> {
    let mut text = Vec::new();
    let read = std::fs::File::open(log).and_then(|file| file.take(64 << 20).read_to_end(&mut text));
    if read.is_err() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let end = lines.len().saturating_sub(5);
    let telling = lines.iter().enumerate().filter(|(at, line)| *at >= end || line.contains("Error"));
    let telling: Vec<String> = telling.map(|(_, line)| line.chars().take(400).collect()).collect();
    telling[telling.len().saturating_sub(LOG_LINES)..].to_vec()
}

/// The tasks, by their ids inside the container, that were stopped when they were dumped: they must stay so.
pub(super) fn stopped_tasks(images: &Path) -> std::io::Result<Vec<i32>> {
    let mut stopped = Vec::new();
    for entry in std::fs::read_dir(images)? {
        let entry = entry?;
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix("core-")?.strip_suffix(".img")?.parse().ok());
        if let Some(pid) = pid
            && task_state(&std::fs::read(entry.path())?) == Some(STOPPED)
        {
            stopped.push(pid);
        }
    }
    stopped.sort_unstable();
    Ok(stopped)
}

/// The node's own CRIU options, which runc passes on.
const NODE_OPTIONS: &str = "/etc/criu/runc.conf";

/// What the node's own file says; a node without one says nothing.
pub(super) fn node_options() -> String {
    std::fs::read_to_string(NODE_OPTIONS).unwrap_or_default()
}

/// What CRIU is told in a configuration file, on both ends. `theirs` is the node's own file, if it has one.
///
/// CRIU locks the network with processes of iptables, which takes longer than all of its other work on a small
/// container. Where connections are kept, the engine closes the network itself. Of a deleted file that is still open it
/// would take a mebibyte.
pub(super) fn options(theirs: &str) -> String {
    let locked = ["tcp-established", "tcp-close", "network-lock"].iter().any(|option| theirs.contains(option));
    let lock = if locked { "" } else { "network-lock skip\n" };
    let ghosts = if theirs.contains("ghost-limit") { "" } else { "ghost-limit 256M\n" };
    format!("{lock}{ghosts}")
}

/// What CRIU learns about the kernel, it keeps here until the next boot.
const KERNEL_CACHE: &str = "/run/criu.kdat";

/// Lets CRIU learn about the kernel before a container is frozen for it. It learns the rest in time where this fails.
pub(super) async fn warm() {
    if !Path::new(KERNEL_CACHE).exists() {
        drop(crate::tools::ask("criu", &["check"]).await);
    }
}

/// Whether the images hold a network namespace. Without, Docker's new one stays as Docker makes it.
pub(super) fn has_network(images: &Path) -> std::io::Result<bool> {
    let mut names = std::fs::read_dir(images)?.flatten().map(|entry| entry.file_name());
    Ok(names.any(|name| name.to_string_lossy().starts_with("netdev-")))
}

/// Whether a socket can only be restored when the network is wired: one that is bound to an address or a device, or
/// that is connected. What is not understood counts as one.
pub(super) fn needs_wiring(images: &Path) -> std::io::Result<bool> {
    match std::fs::read(images.join("files.img")) {
        Ok(image) => Ok(wiring(&image).unwrap_or(true)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

fn wiring(image: &[u8]) -> Option<bool> {
    let mut rest = image.split_at_checked(8)?.1;
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let (entry, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        rest = behind;
        for (number, value) in all_fields(entry)? {
            match (number, value) {
                // An inet socket.
                (4, Field::Bytes(socket)) if !is_plain_listener(socket)? => return Some(true),
                // A packet socket, a tun device.
                (6 | 11, _) => return Some(true),
                _ => {}
            }
        }
    }
    rest.is_empty().then_some(false)
}

/// Not connected, and bound to every address of every device.
fn is_plain_listener(socket: &[u8]) -> Option<bool> {
    for (number, value) in all_fields(socket)? {
        let plain = match (number, value) {
            // dst_port, and the words of both addresses.
            (8 | 11 | 12, Field::Number(value)) => value == 0,
            (11 | 12, Field::Bytes(packed)) => packed.iter().all(|byte| *byte == 0),
            // opts.so_bound_dev
            (14, Field::Bytes(options)) => field(options, 15).is_none(),
            // ifname
            (17, _) => false,
            _ => true,
        };
        if !plain {
            return Some(false);
        }
    }
    Some(true)
}

/// CRIU's number for a stopped task.
const STOPPED: u64 = 3;

/// `core_entry.tc.task_state`: field 1 of field 3, behind two magic numbers and a length. Threads have none.
fn task_state(image: &[u8]) -> Option<u64> {
    let (_, rest) = image.split_at_checked(8)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let core = rest.get(..u32::from_le_bytes(*length) as usize)?;
    match field(core, 3)? {
        Field::Bytes(task) => match field(task, 1)? {
            Field::Number(state) => Some(state),
            Field::Bytes(_) => None,
        },
        Field::Number(_) => None,
    }
}

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Looks a field up in a protobuf message.
fn field(message: &[u8], wanted: u64) -> Option<Field<'_>> {
    all_fields(message)?.into_iter().find(|(number, _)| *number == wanted).map(|(_, value)| value)
}

/// All fields of a protobuf message; `None` when it is none.
fn all_fields(mut message: &[u8]) -> Option<Vec<(u64, Field<'_>)>> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let value = match tag & 7 {
            0 => Field::Number(varint(&mut message)?),
            1 => Field::Bytes(take(&mut message, 8)?),
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                Field::Bytes(take(&mut message, length)?)
            }
            5 => Field::Bytes(take(&mut message, 4)?),
            _ => return None,
        };
        fields.push((tag >> 3, value));
    }
    Some(fields)
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(message: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = message.split_at_checked(length)?;
    *message = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn image(state: u8) -> Vec<u8> {
        // mtype = 1; thread_info = "xy"; tc { task_state = state; exit_code = 300 }
        let core = [8, 1, 18, 2, b'x', b'y', 26, 5, 8, state, 16, 0xac, 2];
        [vec![0; 8], u32::try_from(core.len()).expect("short").to_le_bytes().to_vec(), core.to_vec()].concat()
    }

    #[test]
    fn stopped_tasks_are_found_in_the_images() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("core-7.img"), image(3)).expect("write");
        std::fs::write(folder.path().join("core-1.img"), image(1)).expect("write");
        std::fs::write(folder.path().join("core-x.img"), image(3)).expect("write");
        std::fs::write(folder.path().join("mm-9.img"), image(3)).expect("write");
        assert_eq!(stopped_tasks(folder.path()).expect("read"), [7]);
    }

    /// files.img with one file: its kind's field and that field's content.
    fn files(kind: u8, content: &[u8]) -> Vec<u8> {
        let length = u8::try_from(content.len()).expect("short");
        let entry = [&[8, kind, 16, 1, kind << 3 | 2, length], content].concat();
        let entry_length = u32::try_from(entry.len()).expect("short").to_le_bytes();
        [&[0; 8][..], &entry_length, &entry].concat()
    }

    #[test]
    fn only_a_plain_listener_can_be_restored_before_the_network_is_wired() {
        // src_port 80, dst_port 0, src_addr 0, opts {}
        assert_eq!(wiring(&files(4, &[56, 80, 64, 0, 88, 0, 114, 0])), Some(false));
        assert_eq!(wiring(&files(4, &[56, 80, 64, 0, 88, 127])), Some(true), "an address");
        assert_eq!(wiring(&files(4, &[56, 80, 64, 9, 88, 0])), Some(true), "connected");
        assert_eq!(wiring(&files(4, &[56, 80, 114, 3, 122, 1, b'x'])), Some(true), "a device");
        assert_eq!(wiring(&files(6, &[])), Some(true), "a packet socket");
        assert_eq!(wiring(&files(3, &[8, 1])), Some(false), "an ordinary file");
        assert_eq!(wiring(&[0; 11]), None);
        assert_eq!(wiring(&[&files(3, &[])[..], &[200, 0, 0, 0, 1]].concat()), None);
    }

    #[test]
    fn the_network_is_locked_only_where_the_node_wants_it() {
        assert_eq!(options("# nothing\n"), "network-lock skip\nghost-limit 256M\n");
        assert_eq!(options("tcp-established\n"), "ghost-limit 256M\n");
        assert_eq!(options("network-lock nftables\nghost-limit 1G\n"), "");
    }

    #[test]
    fn known_errors_have_a_meaning() {
        let line =
            "(00.026) Error (criu/sk-inet.c:191): inet: Connected TCP socket, consider using --tcp-established option.";
        assert!(meaning(&[line.to_owned()]).is_some_and(|text| text.contains("TCP connection")));
        assert_eq!(meaning(&["(00.1) Error (criu/x.c:1): something new".to_owned()]), None);
        assert_eq!(meaning(&["tty: all fine".to_owned()]), None, "not an error");
    }

    #[test]
    fn errors_and_the_end_of_a_log_are_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("dump.log");
        let mut lines = vec!["(0) Error early".to_owned()];
        lines.extend((0..100).map(|line| format!("line {line}")));
        std::fs::write(&log, lines.join("\n")).expect("write");
        let kept = last_lines(&log);
        assert_eq!(kept.len(), 6);
        assert_eq!(kept[0], "(0) Error early");
        assert_eq!(kept[5], "line 99");
        assert!(last_lines(&folder.path().join("none")).is_empty());
    }

    proptest! {
        #[test]
        fn no_image_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            task_state(&bytes);
            wiring(&bytes);
        }
    }
}
