//! One stream at the destination: verified frames into files that only root can read.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::timeout;

use super::arrivals::{Arrival, Arrivals, Delivered, Delivery, Received, Slot};
use super::handshake::{self, welcome};
use super::link::{FrameReader, FrameWriter};
use super::pages::PageLink;
use super::seal::{End, Purpose};
use super::wire::{Frame, Kind};
use super::{IDLE, TransferError};
use crate::files::Piece;
use crate::journal::create_private_folder;

/// So often the source hears of an end that is busy.
const ALIVE: Duration = Duration::from_secs(5);

/// CRIU writes a handful of files a task; this is far above any container that fits on a node.
const MOST_FILES: u32 = 200_000;

/// Docker's and runc's preparations take a fifth of a second.
const LONGEST_PREPARATION: Duration = Duration::from_secs(60);

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
    let ticket_of = |migration| arrivals.ticket(migration);
    let session = timeout(handshake::DEADLINE, welcome(&mut stream, ticket_of));
    let session = session.await.map_err(|_| TransferError::Handshake("took too long to introduce itself"))??;
    drop(handshaking);
    tracing::Span::current().record("migration", tracing::field::display(session.migration));

    if session.purpose == Purpose::Ask {
        let mut writer = FrameWriter::new(stream, session.seal(End::Destination));
        writer.write(&Frame::Stands(arrivals.stands(session.migration))).await?;
        writer.shutdown().await;
        return Ok(());
    }
    let slot = arrivals.slot(session.migration).ok_or(TransferError::Handshake("came too late"))?;
    if let Purpose::Memory(lane) = session.purpose {
        let takes = slot.pages.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let takes = takes.ok_or(TransferError::Handshake("sends memory that nobody expects"))?;
        let link = PageLink::new(stream, &session, End::Destination, lane)?;
        (takes.0)(link);
        return Ok(());
    }
    if !slot.take() {
        return Err(TransferError::Handshake("connected a second time"));
    }
    slot.arrival.send_replace(Arrival::Connected);
    let (reader, writer) = stream.into_split();
    let reader = tokio::io::BufReader::with_capacity(READ_AHEAD, reader);
    let mut reader = FrameReader::new(reader, session.seal(End::Source));
    let mut writer = FrameWriter::new(writer, session.seal(End::Destination));

    let outcome = tokio::select! {
        outcome = receive(&slot, &mut reader, &mut writer) => outcome,
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

async fn receive<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    slot: &Slot,
    reader: &mut FrameReader<R>,
    writer: &mut FrameWriter<W>,
) -> Result<(u32, Received), TransferError> {
    let delivery = slot.take_delivery();
    let (mut files, mut bytes, mut image_bytes, mut announced) = (0_u32, 0_u64, 0_u64, None);
    let mut open: Option<Open> = None;
    let mut began: Option<Instant> = None;
    loop {
        match (reader.read(IDLE).await?, &mut open) {
            (Frame::Alive, _) | (Frame::Padding(_), None) => {}
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
            (Frame::Announce { bytes }, None) => {
                announced = Some(bytes);
                if matches!(*slot.arrival.borrow(), Arrival::Streaming { .. }) {
                    slot.arrival.send_replace(Arrival::Streaming { bytes: image_bytes, announced });
                }
            }
            (Frame::MemoryApart { commit_first }, None) => drop(slot.memory.set(commit_first)),
            (Frame::Finish { files: sent_files, bytes: sent_bytes }, None) => {
                if (sent_files, sent_bytes) != (files, bytes) {
                    return Err(TransferError::Damaged("files are missing"));
                }
                if let Some(delivery) = &delivery {
                    applied(delivery, writer).await?;
                }
                let took = began.map(|began| began.elapsed()).unwrap_or_default();
                return Ok((files, Received { bytes, took }));
            }
            (Frame::Change(change), None) => deliver(&delivery, Piece::Change(change.to_vec())).await?,
            (Frame::Block { offset, content }, None) => {
                bytes += content.len() as u64;
                deliver(&delivery, Piece::Block { offset, content: content.to_vec() }).await?;
            }
            (Frame::Offer, None) => {
                let wanted = delivery.as_ref().is_some_and(|delivery| delivery.wants_image);
                writer.write(if wanted { &Frame::Wanted } else { &Frame::Reached }).await?;
            }
            (Frame::Archive(content), None) => {
                bytes += content.len() as u64;
                deliver(&delivery, Piece::Archive(content.to_vec())).await?;
            }
            (Frame::Ask, None) => {
                applied(delivery.as_ref().ok_or(NOT_EXPECTED)?, writer).await?;
                writer.write(&Frame::Reached).await?;
            }
            (Frame::Prepared, None) => {
                began = None;
                slot.prepared.send_replace(true);
                ready(slot, writer).await?;
                writer.write(&Frame::Reached).await?;
            }
            _ => return Err(TransferError::Damaged("a frame that does not belong here")),
        }
    }
}

/// Waits until this end is ready for the freeze; meanwhile the source hears that it lives.
async fn ready<W: AsyncWrite + Unpin>(slot: &Slot, writer: &mut FrameWriter<W>) -> Result<(), TransferError> {
    let (mut ready, since) = (slot.ready.subscribe(), Instant::now());
    while since.elapsed() < LONGEST_PREPARATION {
        if timeout(ALIVE, ready.wait_for(|ready| *ready)).await.map(drop).is_ok() {
            return Ok(());
        }
        writer.write(&Frame::Alive).await?;
    }
    // Whoever has to get ready says what is wrong; this only costs time.
    Ok(())
}

const NOT_EXPECTED: TransferError = TransferError::Damaged("files that nobody expects");

/// Hands a piece of a tree on; waits while too many of them wait already.
async fn deliver(delivery: &Option<Delivery>, piece: Piece) -> Result<(), TransferError> {
    let delivery = delivery.as_ref().ok_or(NOT_EXPECTED)?;
    delivery.pieces.send(Delivered::Piece(piece)).await.map_err(|_| fault(delivery))
}

/// Waits until all pieces so far are in their places; meanwhile the source hears that this end lives.
async fn applied<W: AsyncWrite + Unpin>(delivery: &Delivery, writer: &mut FrameWriter<W>) -> Result<(), TransferError> {
    let (sender, mut reached) = oneshot::channel();
    delivery.pieces.send(Delivered::Ask(sender)).await.map_err(|_| fault(delivery))?;
    loop {
        match timeout(ALIVE, &mut reached).await {
            Ok(reached) => return reached.map_err(|_| fault(delivery)),
            Err(_) => writer.write(&Frame::Alive).await?,
        }
    }
}

fn fault(delivery: &Delivery) -> TransferError {
    let reason = delivery.fault.get().map_or("the destination's files were given up", String::as_str);
    TransferError::File(reason.to_owned())
}

/// Creates a new file; a name that comes twice is an error.
fn create(folder: &Path, kind: Kind, name: &str) -> Result<File, TransferError> {
    let folder = folder.join(kind.folder());
    let opened = create_private_folder(&folder)
        .and_then(|()| OpenOptions::new().write(true).create_new(true).mode(0o600).open(folder.join(name)));
    opened.map_err(|error| TransferError::File(format!("{name} cannot be created: {error}")))
}
