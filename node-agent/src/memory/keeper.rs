//! A process that holds copies of the userfaultfd descriptors, so that nothing bad happens when the agent dies.
//!
//! A restored process whose memory is still on the way must never run on with zeros in its place. The descriptors do not
//! close as long as this process holds them: whoever needs a missing page waits. When the agent ends without saying
//! that all is there, this process kills the container, sees it dead, and only then lets go.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The agent's hidden command that runs it.
pub const COMMAND: &str = "keep-pages";

const DESCRIPTOR: u8 = b'f';
const WHOLE: u8 = b'w';

/// The agent's side.
#[derive(Debug)]
pub struct Keeper {
    socket: UnixStream,
    child: std::process::Child,
}

impl Keeper {
    /// Starts one for a container.
    pub fn start(init: i32) -> io::Result<Keeper> {
        let init = Pid::from_raw(init).ok_or_else(|| io::Error::other("a container without a first process"))?;
        let init = pidfd_open(init, PidfdFlags::empty())?;
        let (socket, theirs) = UnixStream::pair()?;
        let child = Command::new("/proc/self/exe")
            .arg(COMMAND)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()?;
        let keeper = Keeper { socket, child };
        // The container comes first.
        keeper.hold(init.as_fd())?;
        Ok(keeper)
    }

    /// Gives it a copy of a descriptor.
    pub fn hold(&self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = [descriptor];
        if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::Error::other("no room for a descriptor"));
        }
        sendmsg(&self.socket, &[IoSlice::new(&[DESCRIPTOR])], &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Nothing is missing any more: it lets go.
    pub fn release(mut self) -> io::Result<()> {
        rustix::net::send(&self.socket, &[WHOLE], SendFlags::NOSIGNAL)?;
        self.child.wait().map(drop)
    }

    /// The container must not go on: it is dead when this returns.
    pub fn kill(mut self) -> io::Result<()> {
        drop(self.socket);
        self.child.wait().map(drop)
    }
}

/// Receives one message with at most one descriptor, and the message's first byte; `None` at the end.
pub fn receive(socket: impl AsFd, into: &mut [u8]) -> io::Result<Option<(usize, Option<OwnedFd>)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [io::IoSliceMut::new(into)];
    let received = recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let descriptor = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok((received.bytes > 0).then_some((received.bytes, descriptor)))
}

/// The process itself; its standard input is the agent's socket.
pub fn run() -> ExitCode {
    let stdin = io::stdin();
    let mut held = Vec::new();
    loop {
        let mut word = [0];
        match receive(stdin.as_fd(), &mut word) {
            Ok(Some((_, Some(descriptor)))) => held.push(descriptor),
            Ok(Some(_)) if word == [WHOLE] => return ExitCode::SUCCESS,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => break,
        }
    }
    let Some(init) = held.first() else { return ExitCode::SUCCESS };
    // The first process of a PID namespace takes all others with it, and is seen dead last.
    let _ = pidfd_send_signal(init, Signal::KILL);
    let _ = poll(&mut [PollFd::new(init, PollFlags::IN)], None);
    ExitCode::from(3)
}
