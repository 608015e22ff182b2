//! One stream at the source.

use std::path::Path;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;
use uuid::Uuid;

use super::handshake::{self, greet};
use super::link::{FrameReader, FrameWriter};
use super::pages::{Lane, PageLink};
use super::seal::{End, Purpose, Session, TicketKey};
use super::wire::{Frame, Kind, Stands};
use super::{CHUNK, IDLE, TransferError};
use crate::files::Piece;

/// What the kernel still holds back for a slow link when we are done; a dead one ends earlier, by TCP's user timeout.
const LAST_WORD: Duration = Duration::from_secs(120);

/// A file of this size is read at once; images lie on tmpfs.
const SMALL: u64 = 64 << 10;

async fn connect(
    address: &str,
    migration: Uuid,
    ticket: TicketKey,
    purpose: Purpose,
) -> Result<(TcpStream, Session), TransferError> {
    let connect = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let user_timeout = u32::try_from(IDLE.as_millis()).unwrap_or(u32::MAX);
        sockopt::set_tcp_user_timeout(&stream, user_timeout).map_err(std::io::Error::from)?;
        let session = greet(&mut stream, migration, ticket, purpose).await?;
        Ok::<_, TransferError>((stream, session))
    };
    let late = |_| TransferError::Handshake("did not answer in time");
    timeout(handshake::DEADLINE, connect).await.map_err(late)?
}

/// Opens a connection for memory, beside or after the one for everything else.
pub async fn page_link(
    address: &str,
    migration: Uuid,
    ticket: TicketKey,
    lane: Lane,
) -> Result<PageLink, TransferError> {
    let (stream, session) = connect(address, migration, ticket, Purpose::Memory(lane)).await?;
    Ok(PageLink::new(stream, &session, End::Source, lane)?)
}

/// Asks the destination how a migration stands there.
pub async fn ask(address: &str, migration: Uuid, ticket: TicketKey) -> Result<Stands, TransferError> {
    let (stream, session) = connect(address, migration, ticket, Purpose::Ask).await?;
    match FrameReader::new(stream, session.seal(End::Destination)).read(handshake::DEADLINE).await? {
        Frame::Stands(stands) => Ok(stands),
        _ => Err(TransferError::Damaged("a frame that does not belong here")),
    }
}

/// A connection that both ends have proven to be the right one.
pub struct Outgoing {
    reader: FrameReader<OwnedReadHalf>,
    writer: FrameWriter<OwnedWriteHalf>,
    files: u32,
    bytes: u64,
}

impl Outgoing {
    /// Connects and proves the ticket.
    pub async fn connect(address: &str, migration: Uuid, ticket: TicketKey) -> Result<Outgoing, TransferError> {
        let (stream, session) = connect(address, migration, ticket, Purpose::State).await?;
        let (reader, writer) = stream.into_split();
        Ok(Outgoing {
            reader: FrameReader::new(reader, session.seal(End::Destination)),
            writer: FrameWriter::new(writer, session.seal(End::Source)),
            files: 0,
            bytes: 0,
        })
    }

    /// Bytes that went over the network so far.
    pub fn sent_bytes(&self) -> u64 {
        self.writer.sent
    }

    /// Content sent so far.
    pub fn content_bytes(&self) -> u64 {
        self.bytes
    }

    /// Says that this end lives.
    pub async fn alive(&mut self) -> Result<(), TransferError> {
        self.write(&Frame::Alive).await
    }

    /// Says that the container's log is complete up to now.
    pub async fn end_history(&mut self) -> Result<(), TransferError> {
        self.write(&Frame::EndOfHistory).await
    }

    /// Says that memory comes over connections of its own.
    pub async fn memory_apart(&mut self, commit_first: bool) -> Result<(), TransferError> {
        self.write(&Frame::MemoryApart { commit_first }).await
    }

    /// Says how much is to come.
    pub async fn announce(&mut self, bytes: u64) -> Result<(), TransferError> {
        self.write(&Frame::Announce { bytes }).await
    }

    /// Sends a file; `sent` hears of every chunk.
    pub async fn send_file(
        &mut self,
        kind: Kind,
        name: &str,
        path: &Path,
        sent: impl FnMut(u64),
    ) -> Result<(), TransferError> {
        let opened = std::fs::File::open(path).and_then(|file| Ok((file.metadata()?, file)));
        let (metadata, mut file) = opened.map_err(|error| unreadable(name, &error))?;
        if metadata.is_file() && metadata.len() <= SMALL {
            // Reading it here costs less than another thread would.
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut file, &mut content).map_err(|error| unreadable(name, &error))?;
            return self.send(kind, name, content.as_slice(), sent).await;
        }
        self.send(kind, name, tokio::fs::File::from_std(file), sent).await
    }

    /// Sends content from anywhere as a file.
    pub async fn send<R: AsyncRead + Unpin>(
        &mut self,
        kind: Kind,
        name: &str,
        mut content: R,
        mut sent: impl FnMut(u64),
    ) -> Result<(), TransferError> {
        self.write(&Frame::File { kind, name }).await?;
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = content.read(&mut chunk).await.map_err(|error| unreadable(name, &error))?;
            if count == 0 {
                break;
            }
            self.write(&Frame::Data(&chunk[..count])).await?;
            self.bytes += count as u64;
            sent(count as u64);
        }
        self.files += 1;
        self.write(&Frame::EndOfFile).await
    }

    /// Sends a piece of a tree.
    pub async fn piece(&mut self, piece: &Piece) -> Result<(), TransferError> {
        match piece {
            Piece::Change(change) if change.len() > CHUNK => {
                Err(TransferError::File("a file has more extended attributes than can be sent".into()))
            }
            Piece::Change(change) => self.write(&Frame::Change(change)).await,
            Piece::Archive(content) => self.archive(content).await,
            Piece::Block { offset, content } => {
                self.bytes += content.len() as u64;
                self.write(&Frame::Block { offset: *offset, content }).await
            }
        }
    }

    /// Offers the container's image; whether the destination wants it.
    pub async fn offer(&mut self) -> Result<bool, TransferError> {
        self.write(&Frame::Offer).await?;
        match self.answer(IDLE).await? {
            Frame::Wanted => Ok(true),
            Frame::Reached => Ok(false),
            Frame::Rejected(reason) => Err(TransferError::Rejected(reason.to_owned())),
            _ => Err(TransferError::Damaged("the destination answered something else")),
        }
    }

    /// Sends part of the image's archive.
    pub async fn archive(&mut self, content: &[u8]) -> Result<(), TransferError> {
        for chunk in content.chunks(CHUNK) {
            self.bytes += chunk.len() as u64;
            self.write(&Frame::Archive(chunk)).await?;
        }
        Ok(())
    }

    /// Sends so many bytes that mean nothing, to see how long that takes. They are no content.
    pub async fn pad(&mut self, bytes: u64) -> Result<(), TransferError> {
        let nothing = vec![0; CHUNK];
        let mut left = bytes;
        while left > 0 {
            let chunk = left.min(CHUNK as u64);
            self.write(&Frame::Padding(&nothing[..chunk as usize])).await?;
            left -= chunk;
        }
        Ok(())
    }

    /// Waits until the destination has every piece so far in its place.
    pub async fn ask(&mut self) -> Result<(), TransferError> {
        self.write(&Frame::Ask).await?;
        match self.answer(IDLE).await? {
            Frame::Reached => Ok(()),
            Frame::Rejected(reason) => Err(TransferError::Rejected(reason.to_owned())),
            _ => Err(TransferError::Damaged("the destination answered something else")),
        }
    }

    /// Says that the source could freeze now; returns when the destination is ready for it.
    pub async fn prepared(&mut self) -> Result<(), TransferError> {
        self.write(&Frame::Prepared).await?;
        match self.answer(IDLE).await? {
            Frame::Reached => Ok(()),
            Frame::Rejected(reason) => Err(TransferError::Rejected(reason.to_owned())),
            _ => Err(TransferError::Damaged("the destination answered something else")),
        }
    }

    /// The destination's next word that means something.
    async fn answer(&mut self, idle: Duration) -> Result<Frame<'_>, TransferError> {
        while self.reader.read(idle).await? == Frame::Alive {}
        self.reader.last()
    }

    /// Ends the stream and waits until the destination says that it has verified all of it.
    pub async fn finish(&mut self) -> Result<(), TransferError> {
        self.write(&Frame::Finish { files: self.files, bytes: self.bytes }).await?;
        let whole = (self.files, self.bytes);
        match self.answer(LAST_WORD).await? {
            Frame::Received { files, bytes } if (files, bytes) == whole => Ok(()),
            Frame::Rejected(reason) => Err(TransferError::Rejected(reason.to_owned())),
            _ => Err(TransferError::Damaged("the destination acknowledged something else")),
        }
    }

    /// When a write fails, the destination may have said why.
    async fn write(&mut self, frame: &Frame<'_>) -> Result<(), TransferError> {
        let Err(error) = self.writer.write(frame).await else { return Ok(()) };
        match self.reader.read(Duration::from_secs(1)).await {
            Ok(Frame::Rejected(reason)) => Err(TransferError::Rejected(reason.to_owned())),
            _ => Err(error),
        }
    }
}

fn unreadable(name: &str, error: &std::io::Error) -> TransferError {
    TransferError::File(format!("{name} cannot be read: {error}"))
}
