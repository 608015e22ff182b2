//! Sealed frames over a byte stream, with a deadline on every read and write.

use std::io::{Error, ErrorKind};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::seal::{Seal, TAG};
use super::wire::{Frame, LARGEST_BODY};
use super::{IDLE, TransferError};

/// Frames of small files are gathered up to this size; CRIU writes some forty of a few hundred bytes.
const GATHERED: usize = 64 << 10;

/// Writes frames.
pub(super) struct FrameWriter<W> {
    stream: W,
    seal: Seal,
    buffer: Vec<u8>,
    body: Vec<u8>,
    /// Bytes that went out.
    pub(super) sent: u64,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    pub(super) fn new(stream: W, seal: Seal) -> Self {
        FrameWriter { stream, seal, buffer: Vec::new(), body: Vec::new(), sent: 0 }
    }

    /// Seals one frame and writes it out; inside of files, when enough has come together.
    pub(super) async fn write(&mut self, frame: &Frame<'_>) -> Result<(), TransferError> {
        self.body.clear();
        let more_follows = matches!(frame, Frame::File { .. } | Frame::Data(_) | Frame::EndOfFile);
        frame.encode(&mut self.body);
        let length = u32::try_from(self.body.len()).ok().filter(|_| self.body.len() <= LARGEST_BODY);
        let length = length.ok_or(TransferError::Damaged("a frame that is too long"))?;
        self.buffer.extend(length.to_be_bytes());
        self.buffer.extend(&self.body);
        self.buffer.extend(self.seal.tag(&self.body).as_bytes());
        if more_follows && self.buffer.len() < GATHERED {
            return Ok(());
        }
        let written = write_all(&mut self.stream, &self.buffer, IDLE).await;
        self.sent += self.buffer.len() as u64;
        self.buffer.clear();
        written
    }

    pub(super) async fn shutdown(&mut self) {
        drop(timeout(Duration::from_secs(1), self.stream.shutdown()).await);
    }
}

/// Reads frames. What it returns was verified.
pub(super) struct FrameReader<R> {
    stream: R,
    seal: Seal,
    body: Vec<u8>,
    /// Bytes that came in.
    pub(super) read: u64,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(stream: R, seal: Seal) -> Self {
        FrameReader { stream, seal, body: Vec::new(), read: 0 }
    }

    /// The next frame; `idle` bounds every wait for a byte.
    pub(super) async fn read(&mut self, idle: Duration) -> Result<Frame<'_>, TransferError> {
        let mut length = [0; 4];
        read_exact(&mut self.stream, &mut length, idle).await?;
        let length = u32::from_be_bytes(length) as usize;
        if length > LARGEST_BODY {
            return Err(TransferError::Damaged("a frame that is too long"));
        }
        self.body.resize(length, 0);
        read_exact(&mut self.stream, &mut self.body, idle).await?;
        let mut tag = [0; TAG];
        read_exact(&mut self.stream, &mut tag, idle).await?;
        self.read += (4 + length + TAG) as u64;
        // blake3 compares in constant time.
        if self.seal.tag(&self.body) != blake3::Hash::from_bytes(tag) {
            return Err(TransferError::Damaged("a frame does not match its tag"));
        }
        Frame::decode(&self.body)
    }

    /// The frame that was read last, once more.
    pub(super) fn last(&self) -> Result<Frame<'_>, TransferError> {
        Frame::decode(&self.body)
    }

    /// Swallows what still comes for a moment, so that closing does not reset the connection under our last words.
    pub(super) async fn drain(&mut self, patience: Duration) {
        let mut scrap = vec![0; 64 << 10];
        let swallow = async { while self.stream.read(&mut scrap).await.is_ok_and(|count| count > 0) {} };
        drop(timeout(patience, swallow).await);
    }
}

/// Like `AsyncReadExt::read_exact`, but the deadline starts anew with every byte.
pub(super) async fn read_exact<R: AsyncRead + Unpin>(
    stream: &mut R,
    mut into: &mut [u8],
    idle: Duration,
) -> Result<(), TransferError> {
    while !into.is_empty() {
        let count = timeout(idle, stream.read(into)).await.map_err(|_| TransferError::Idle)??;
        if count == 0 {
            return Err(Error::new(ErrorKind::UnexpectedEof, "was closed by the other end").into());
        }
        into = &mut into[count..];
    }
    Ok(())
}

/// Like `AsyncWriteExt::write_all`, but the deadline starts anew with every byte.
pub(super) async fn write_all<W: AsyncWrite + Unpin>(
    stream: &mut W,
    mut from: &[u8],
    idle: Duration,
) -> Result<(), TransferError> {
    while !from.is_empty() {
        let count = timeout(idle, stream.write(from)).await.map_err(|_| TransferError::Idle)??;
        if count == 0 {
            return Err(Error::new(ErrorKind::WriteZero, "takes nothing any more").into());
        }
        from = &from[count..];
    }
    Ok(())
}
