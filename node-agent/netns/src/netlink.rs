//! As much of netlink as this crate needs: messages with attributes, and their acknowledgements.

use std::io;
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, socket_with};

/// The kernel answers at once; only a broken one does not.
const PATIENCE: Duration = Duration::from_secs(10);

const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
pub(crate) const DUMP: u16 = 0x300;
pub(crate) const CREATE: u16 = 0x400;

const ERROR: u16 = 2;
const DONE: u16 = 3;
const NESTED: u16 = 0x8000;
const HEADER: usize = 16;

/// A message under construction.
pub(crate) struct Message(Vec<u8>);

impl Message {
    /// `header` is the family's own, behind netlink's.
    pub(crate) fn new(kind: u16, flags: u16, header: &[u8]) -> Message {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | REQUEST).to_ne_bytes());
        bytes.extend([0; 8]); // the sequence number comes when it is sent; the port is the kernel's
        bytes.extend(header);
        Message(bytes)
    }

    /// Asks for an acknowledgement.
    pub(crate) fn acknowledged(mut self) -> Message {
        let flags = u16::from_ne_bytes([self.0[6], self.0[7]]) | ACK;
        self.0[6..8].copy_from_slice(&flags.to_ne_bytes());
        self
    }

    pub(crate) fn attribute(mut self, kind: u16, value: &[u8]) -> Message {
        attribute(&mut self.0, kind, value);
        self
    }

    pub(crate) fn nested(mut self, kind: u16, inner: &[(u16, &[u8])]) -> Message {
        let mut value = Vec::new();
        for (kind, content) in inner {
            attribute(&mut value, *kind, content);
        }
        attribute(&mut self.0, kind | NESTED, &value);
        self
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[0..4].copy_from_slice(&length.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }
}

fn attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// Text as the kernel wants it in an attribute.
pub(crate) fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

/// A socket to the kernel, in the namespace of the thread that made it.
pub(crate) struct Socket(OwnedFd);

impl Socket {
    /// `None` is the routing family.
    pub(crate) fn new(protocol: Option<Protocol>) -> io::Result<Socket> {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        Ok(Socket(socket))
    }

    /// Sends messages in one go and waits for as many acknowledgements as were asked for; the first error ends it.
    pub(crate) fn ask(&self, messages: Vec<Message>) -> io::Result<()> {
        let mut awaited = messages.iter().filter(|message| message.0[6] & ACK as u8 != 0).count();
        self.send(messages)?;
        let mut buffer = vec![0; 1 << 16];
        while awaited > 0 {
            let length = rustix::io::read(&self.0, &mut buffer)?;
            for (kind, body) in split(&buffer[..length]) {
                if kind == ERROR {
                    match body.first_chunk::<4>().map(|code| i32::from_ne_bytes(*code)) {
                        Some(0) => awaited = awaited.saturating_sub(1),
                        Some(code) => return Err(io::Error::from_raw_os_error(-code)),
                        None => return Err(io::Error::other("the kernel's answer is too short")),
                    }
                }
            }
        }
        Ok(())
    }

    /// Sends a request for a list and returns the bodies of the answers.
    pub(crate) fn list(&self, message: Message) -> io::Result<Vec<Vec<u8>>> {
        self.send(vec![message])?;
        let mut buffer = vec![0; 1 << 16];
        let mut bodies = Vec::new();
        loop {
            let length = rustix::io::read(&self.0, &mut buffer)?;
            for (kind, body) in split(&buffer[..length]) {
                match kind {
                    DONE => return Ok(bodies),
                    ERROR => return Err(io::Error::other("the kernel does not list its links")),
                    _ => bodies.push(body.to_vec()),
                }
            }
        }
    }

    fn send(&self, messages: Vec<Message>) -> io::Result<()> {
        let numbered = (1..).zip(messages).flat_map(|(sequence, message)| message.finish(sequence));
        rustix::io::write(&self.0, &numbered.collect::<Vec<u8>>())?;
        Ok(())
    }
}

/// Kind and body of each message.
fn split(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut messages = Vec::new();
    while let Some(header) = bytes.first_chunk::<HEADER>() {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let Some(body) = bytes.get(HEADER..length) else { break };
        messages.push((u16::from_ne_bytes([header[4], header[5]]), body));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    messages
}

/// The attributes behind a family's header.
pub(crate) fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while let Some(header) = bytes.first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let Some(value) = bytes.get(4..length) else { break };
        found.push((u16::from_ne_bytes([header[2], header[3]]) & !NESTED, value));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let message = Message::new(18, DUMP, &[7; 16]).attribute(3, &text("eth0")).nested(4, &[(1, &[9; 4])]);
        let bytes = message.acknowledged().finish(5);
        let messages = split(&bytes);
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0].0, 18);
        let found = attributes(&messages[0].1[16..]);
        assert_eq!(found[0], (3, &b"eth0\0"[..]));
        assert_eq!((found[1].0, attributes(found[1].1)), (4, vec![(1, &[9; 4][..])]));
    }

    #[test]
    fn garbage_is_no_message() {
        assert!(split(&[1; 10]).is_empty());
        assert!(split(&[0; 64]).is_empty());
        assert!(attributes(&[0; 8]).is_empty());
    }
}
