//! One stream at the destination: verified frames into files that only root can read.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use tokio::io::AsyncRead;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::arrivals::{Arrival, Arrivals, Received, Slot};
use super::handshake::{self, welcome};
use super::link::{FrameReader, FrameWriter};
use super::seal::End;
use super::wire::{Frame, Kind};
use super::{IDLE, TransferError};
use crate::journal::create_private_folder;

/// CRIU writes a handful of files a task; this is far above any container that fits on a node.
const MOST_FILES: u32 = 200_000;

/// One read of the socket brings many small frames.
const READ_AHEAD: usize = 256 << 10;

/// Takes one connection from the first byte to the last.
pub(super) async fn serve(
    arrivals: &Arrivals,
    mut stream: TcpStream,
    handshaking: OwnedSemaphorePermit,
) -> Result<(), TransferError> {
    stream.set_nodelay(true)?;
    let user_timeout = u32::try_from(IDLE.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(&stream, user_timeout).map_err(std::io::Error::from)?;
    let ticket_of = |migration| arrivals.slot(migration).map(|slot| slot.ticket.clone());
    let session = timeout(handshake::DEADLINE, welcome(&mut stream, ticket_of));
    let session = session.await.map_err(|_| TransferError::Handshake("took too long to introduce itself"))??;
    drop(handshaking);

    let slot = arrivals.slot(session.migration).ok_or(TransferError::Handshake("came too late"))?;
    if !slot.take() {
        return Err(TransferError::Handshake("connected a second time"));
    }
    slot.arrival.send_replace(Arrival::Connected);
    let (reader, writer) = stream.into_split();
    let reader = tokio::io::BufReader::with_capacity(READ_AHEAD, reader);
    let mut reader = FrameReader::new(reader, session.seal(End::Source));
    let mut writer = FrameWriter::new(writer, session.seal(End::Destination));

    let outcome = tokio::select! {
        outcome = receive(&slot, &mut reader) => outcome,
        () = slot.cancel.cancelled() => Err(TransferError::File("the migration was given up".into())),
    };
    match outcome {
        Ok((files, received)) => {
            arrivals.bandwidth.learn(&slot.peer, received.bytes, received.took);
            // Whoever waits for the stream need not wait for the acknowledgement's way back.
            slot.arrival.send_replace(Arrival::Complete(received));
            let acknowledged = writer.write(&Frame::Received { files, bytes: received.bytes }).await;
            writer.shutdown().await;
            acknowledged
        }
        Err(error) => {
            slot.arrival.send_replace(Arrival::Broken(error.to_string()));
            let reason: String = error.to_string().chars().take(500).collect();
            drop(writer.write(&Frame::Rejected(&reason)).await);
            writer.shutdown().await;
            reader.drain(Duration::from_secs(2)).await;
            Err(error)
        }
    }
}

/// A file that is being written.
struct Open {
    file: File,
    kind: Kind,
    name: String,
}

async fn receive<R: AsyncRead + Unpin>(
    slot: &Slot,
    reader: &mut FrameReader<R>,
) -> Result<(u32, Received), TransferError> {
    let (mut files, mut bytes, mut image_bytes, mut announced) = (0_u32, 0_u64, 0_u64, None);
    let mut open: Option<Open> = None;
    let mut began: Option<Instant> = None;
    loop {
        match (reader.read(IDLE).await?, &mut open) {
            (Frame::Alive, _) => {}
            (Frame::File { kind, name }, None) => {
                if files == MOST_FILES {
                    return Err(TransferError::Damaged("too many files"));
                }
                if kind == Kind::Image {
                    began.get_or_insert_with(Instant::now);
                }
                open = Some(Open { file: create(&slot.folder, kind, name)?, kind, name: name.to_owned() });
            }
            (Frame::Data(content), Some(open)) => {
                // One chunk into tmpfs: far below a millisecond, not worth another thread.
                open.file
                    .write_all(content)
                    .map_err(|error| TransferError::File(format!("{} cannot be written: {error}", open.name)))?;
                bytes += content.len() as u64;
                if open.kind == Kind::Image {
                    image_bytes += content.len() as u64;
                    slot.arrival.send_replace(Arrival::Streaming { bytes: image_bytes, announced });
                }
            }
            (Frame::EndOfFile, Some(_)) => {
                open = None;
                files += 1;
            }
            (Frame::EndOfHistory, None) => drop(slot.arrival.send_replace(Arrival::Streaming { bytes: 0, announced })),
            (Frame::Announce { bytes }, None) => announced = Some(bytes),
            (Frame::Finish { files: sent_files, bytes: sent_bytes }, None) => {
                if (sent_files, sent_bytes) != (files, bytes) {
                    return Err(TransferError::Damaged("files are missing"));
                }
                let took = began.map(|began| began.elapsed()).unwrap_or_default();
                return Ok((files, Received { bytes, took }));
            }
            _ => return Err(TransferError::Damaged("a frame that does not belong here")),
        }
    }
}

/// Creates a new file; a name that comes twice is an error.
fn create(folder: &Path, kind: Kind, name: &str) -> Result<File, TransferError> {
    let folder = folder.join(kind.folder());
    let opened = create_private_folder(&folder)
        .and_then(|()| OpenOptions::new().write(true).create_new(true).mode(0o600).open(folder.join(name)));
    opened.map_err(|error| TransferError::File(format!("{name} cannot be created: {error}")))
}
