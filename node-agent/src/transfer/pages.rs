//! Memory on its way: sealed messages over connections of their own, with blocking calls.
//!
//! ```text
//! source                                             destination
//!   | -- Pages, Zeros (while the container runs) ----> |  kept in the store
//!   | -- Frozen -------------------------------------> |
//!   | -- Pages, Zeros, Same (frozen) ----------------> |  put into the restored processes
//!   | <-------------------------------------- Fetch -- |  a process needs these now
//!   | -- All ----------------------------------------> |
//!   | <-------------------------------------- Whole -- |  nothing is missing any more
//! ```
//!
//! Moving pages costs CPU, so it is done by threads of its own and not between other tasks. Frames are those of
//! [`super::link`]: length, body, keyed BLAKE3 tag over number and body.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use super::seal::{End, Seal, Session, TAG};
use super::{IDLE, TransferError};

/// The most memory in one message.
pub const LARGEST: usize = 256 << 10;

/// Tag, process and address.
const HEAD: usize = 13;

/// A reader that waits looks up so often.
const LOOK: Duration = Duration::from_secs(1);

/// One message. Processes are named by their id inside the container; addresses are those of the frozen process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageMessage<'a> {
    /// Content of memory.
    Pages {
        /// The process.
        pid: u32,
        /// Where it begins.
        address: u64,
        /// Whole pages.
        content: &'a [u8],
    },
    /// The same, compressed with LZ4.
    Packed {
        /// The process.
        pid: u32,
        /// Where it begins.
        address: u64,
        /// Its length when unpacked, and the packed bytes.
        content: (u32, &'a [u8]),
    },
    /// Memory that is all zero.
    Zeros {
        /// The process.
        pid: u32,
        /// Where it begins.
        address: u64,
        /// Bytes.
        len: u64,
    },
    /// What was sent of this range while the container ran is still right.
    Same {
        /// The process.
        pid: u32,
        /// Where it begins.
        address: u64,
        /// Bytes.
        len: u64,
    },
    /// Destination: send this before anything else.
    Fetch {
        /// The process.
        pid: u32,
        /// Where it begins.
        address: u64,
        /// Bytes.
        len: u64,
    },
    /// The container is frozen: what follows is final.
    Frozen,
    /// Everything was sent.
    All,
    /// Destination: nothing is missing any more.
    Whole,
    /// Nothing to say.
    Alive,
    /// The frozen container's memory cannot be read any more: what is missing never comes.
    Gone,
}

impl<'a> PageMessage<'a> {
    /// What comes before the content, and the content.
    fn parts(&self, head: &mut Vec<u8>) -> &'a [u8] {
        let mut place = |tag: u8, pid: u32, address: u64| {
            head.push(tag);
            head.extend(pid.to_be_bytes());
            head.extend(address.to_be_bytes());
        };
        match *self {
            PageMessage::Pages { pid, address, content } => {
                place(1, pid, address);
                content
            }
            PageMessage::Packed { pid, address, content: (len, content) } => {
                place(2, pid, address);
                head.extend(len.to_be_bytes());
                content
            }
            PageMessage::Zeros { pid, address, len } => {
                place(3, pid, address);
                head.extend(len.to_be_bytes());
                &[]
            }
            PageMessage::Same { pid, address, len } => {
                place(4, pid, address);
                head.extend(len.to_be_bytes());
                &[]
            }
            PageMessage::Fetch { pid, address, len } => {
                place(5, pid, address);
                head.extend(len.to_be_bytes());
                &[]
            }
            PageMessage::Frozen => {
                head.push(6);
                &[]
            }
            PageMessage::All => {
                head.push(7);
                &[]
            }
            PageMessage::Whole => {
                head.push(8);
                &[]
            }
            PageMessage::Alive => {
                head.push(9);
                &[]
            }
            PageMessage::Gone => {
                head.push(10);
                &[]
            }
        }
    }

    /// Reads a body back. Only what [`PageMessage::parts`] makes is accepted.
    fn decode(body: &'a [u8]) -> Result<PageMessage<'a>, TransferError> {
        const DAMAGED: TransferError = TransferError::Damaged("a message about memory");
        let (&tag, rest) = body.split_first().ok_or(DAMAGED)?;
        if let (6..=10, []) = (tag, rest) {
            return Ok(match tag {
                6 => PageMessage::Frozen,
                7 => PageMessage::All,
                8 => PageMessage::Whole,
                9 => PageMessage::Alive,
                _ => PageMessage::Gone,
            });
        }
        let (pid, rest) = rest.split_first_chunk::<4>().ok_or(DAMAGED)?;
        let (address, rest) = rest.split_first_chunk::<8>().ok_or(DAMAGED)?;
        let (pid, address) = (u32::from_be_bytes(*pid), u64::from_be_bytes(*address));
        match tag {
            1 => Ok(PageMessage::Pages { pid, address, content: rest }),
            2 => {
                let (len, content) = rest.split_first_chunk::<4>().ok_or(DAMAGED)?;
                Ok(PageMessage::Packed { pid, address, content: (u32::from_be_bytes(*len), content) })
            }
            3..=5 => {
                let len = u64::from_be_bytes(rest.try_into().map_err(|_| DAMAGED)?);
                Ok(match tag {
                    3 => PageMessage::Zeros { pid, address, len },
                    4 => PageMessage::Same { pid, address, len },
                    _ => PageMessage::Fetch { pid, address, len },
                })
            }
            _ => Err(DAMAGED),
        }
    }
}

/// A connection for memory, both ends proven.
#[derive(Debug)]
pub struct PageLink {
    /// What the other end says.
    pub reader: PageReader,
    /// What this end says.
    pub writer: PageWriter,
    /// Which of the source's connections it is.
    pub lane: Lane,
}

/// What a connection for memory is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Everything, in the source's order.
    Bulk,
    /// What a process waits for.
    Urgent,
}

impl PageLink {
    pub(super) fn new(stream: tokio::net::TcpStream, session: &Session, own: End, lane: Lane) -> io::Result<PageLink> {
        let stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(LOOK))?;
        stream.set_write_timeout(Some(IDLE))?;
        let other = if own == End::Source { End::Destination } else { End::Source };
        let reader = PageReader { stream: stream.try_clone()?, seal: session.seal(other), body: Vec::new() };
        Ok(PageLink { reader, writer: PageWriter { stream, seal: session.seal(own), head: Vec::new(), sent: 0 }, lane })
    }

    /// Cuts the connection from another thread.
    pub fn cutter(&self) -> io::Result<TcpStream> {
        self.writer.stream.try_clone()
    }
}

/// Cuts a connection: whoever reads or writes on it finds it broken.
pub fn cut(stream: &TcpStream) {
    drop(stream.shutdown(Shutdown::Both));
}

/// Says messages.
#[derive(Debug)]
pub struct PageWriter {
    stream: TcpStream,
    seal: Seal,
    head: Vec<u8>,
    /// Bytes that went out.
    pub sent: u64,
}

impl PageWriter {
    /// Seals one message and writes it out.
    pub fn write(&mut self, message: &PageMessage<'_>) -> Result<(), TransferError> {
        self.head.clear();
        self.head.extend([0; 4]);
        let content = message.parts(&mut self.head);
        let body = self.head.len() - 4 + content.len();
        let length = u32::try_from(body).ok().filter(|_| body <= LARGEST + HEAD + 8);
        let length = length.ok_or(TransferError::Damaged("a message that is too long"))?;
        self.head[..4].copy_from_slice(&length.to_be_bytes());
        let tag = self.seal.tag_of(&[&self.head[4..], content]);
        let mut parts = [IoSlice::new(&self.head), IoSlice::new(content), IoSlice::new(tag.as_bytes())];
        let mut parts = &mut parts[..];
        while !parts.is_empty() {
            match self.stream.write_vectored(parts) {
                Ok(0) => return Err(io::Error::new(ErrorKind::WriteZero, "takes nothing any more").into()),
                Ok(count) => {
                    self.sent += count as u64;
                    IoSlice::advance_slices(&mut parts, count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => return Err(TransferError::Idle),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Hears messages. What it returns was verified.
#[derive(Debug)]
pub struct PageReader {
    stream: TcpStream,
    seal: Seal,
    body: Vec<u8>,
}

impl PageReader {
    /// The next message; `None` when nothing came for about a second.
    pub fn read(&mut self) -> Result<Option<PageMessage<'_>>, TransferError> {
        let mut length = [0; 4];
        if !self.exact(&mut length, true)? {
            return Ok(None);
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > LARGEST + HEAD + 8 {
            return Err(TransferError::Damaged("a message that is too long"));
        }
        let mut body = std::mem::take(&mut self.body);
        body.resize(length, 0);
        self.exact(&mut body, false)?;
        let mut tag = [0; TAG];
        self.exact(&mut tag, false)?;
        self.body = body;
        if self.seal.tag_of(&[&self.body]) != blake3::Hash::from_bytes(tag) {
            return Err(TransferError::Damaged("a message does not match its tag"));
        }
        PageMessage::decode(&self.body).map(Some)
    }

    /// False when nothing came and that is `optional`; inside of a message the other end has [`IDLE`] for each byte.
    fn exact(&mut self, into: &mut [u8], optional: bool) -> Result<bool, TransferError> {
        let (mut at, mut heard) = (0, Instant::now());
        while at < into.len() {
            match self.stream.read(&mut into[at..]) {
                Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "was closed by the other end").into()),
                Ok(count) => (at, heard) = (at + count, Instant::now()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) && optional && at == 0 => return Ok(false),
                Err(error) if is_timeout(&error) && heard.elapsed() < IDLE => {}
                Err(error) if is_timeout(&error) => return Err(TransferError::Idle),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn body(message: &PageMessage<'_>) -> Vec<u8> {
        let mut body = Vec::new();
        let content = message.parts(&mut body);
        body.extend(content);
        body
    }

    proptest! {
        #[test]
        fn messages_come_back_as_they_were(
            pid: u32, address: u64, len: u64, content in prop::collection::vec(any::<u8>(), 0..200)
        ) {
            for message in [
                PageMessage::Pages { pid, address, content: &content },
                PageMessage::Packed { pid, address, content: (pid, &content) },
                PageMessage::Zeros { pid, address, len }, PageMessage::Same { pid, address, len },
                PageMessage::Fetch { pid, address, len }, PageMessage::Frozen, PageMessage::All, PageMessage::Whole,
                PageMessage::Alive, PageMessage::Gone,
            ] {
                let body = body(&message);
                prop_assert_eq!(PageMessage::decode(&body).expect("decodes"), message);
            }
        }

        #[test]
        fn any_bytes_are_refused_or_mean_exactly_themselves(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(message) = PageMessage::decode(&bytes) {
                prop_assert_eq!(body(&message), bytes);
            }
        }
    }
}
