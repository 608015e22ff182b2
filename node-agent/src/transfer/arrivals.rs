//! Which streams are expected here, and the listener that takes them in.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use uuid::Uuid;

use super::incoming;
use super::pages::PageLink;
use super::seal::TicketKey;
use super::wire::Stands;
use crate::files::Piece;

/// Connections that may be in their handshake at once. Strangers beyond that wait in the kernel's queue, at
/// most as long as a handshake may take.
const HANDSHAKES: usize = 64;

/// How far an expected stream has come.
#[derive(Debug, Clone, PartialEq)]
pub enum Arrival {
    /// The source has not connected yet.
    Awaited,
    /// The source is connected; the container's log is coming.
    Connected,
    /// The log is complete; so many bytes of images of so many announced have come.
    Streaming {
        /// Bytes so far.
        bytes: u64,
        /// Bytes in all, once the source knows.
        announced: Option<u64>,
    },
    /// Everything is there and verified.
    Complete(Received),
    /// It broke. No other connection will be taken.
    Broken(String),
}

/// What came in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Received {
    /// Content of all files.
    pub bytes: u64,
    /// From the first byte of the images to the last.
    pub took: Duration,
}

/// What a stream brings besides whole files, in its order.
#[derive(Debug)]
pub enum Delivered {
    /// A piece of a tree.
    Piece(Piece),
    /// Answer when everything before is done.
    Ask(oneshot::Sender<()>),
}

/// Where trees of files go.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The image has to come first.
    pub wants_image: bool,
    /// Takes what comes; closed after a failure.
    pub pieces: mpsc::Sender<Delivered>,
    /// Why it failed.
    pub fault: Arc<OnceLock<String>>,
}

/// One expected stream.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) ticket: TicketKey,
    pub(super) folder: PathBuf,
    pub(super) peer: String,
    pub(super) arrival: watch::Sender<Arrival>,
    pub(super) cancel: CancellationToken,
    /// Gone once the stream has come to its end.
    pub(super) delivery: Mutex<Option<Delivery>>,
    /// Whether memory comes apart, and then whether also after the commit.
    pub(super) memory: OnceLock<bool>,
    pub(super) pages: Mutex<Option<TakesPages>>,
    /// The source could freeze now, and: this end is ready for it.
    pub(super) prepared: watch::Sender<bool>,
    pub(super) ready: watch::Sender<bool>,
    taken: AtomicBool,
}

/// Takes connections for memory; must not block.
#[derive(Clone)]
pub struct TakesPages(pub Arc<dyn Fn(PageLink) + Send + Sync>);

impl std::fmt::Debug for TakesPages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TakesPages")
    }
}

/// Says how a migration stands here; must not block for long.
#[derive(Clone)]
pub struct AnswersPeers(pub Arc<dyn Fn(Uuid) -> Stands + Send + Sync>);

impl std::fmt::Debug for AnswersPeers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AnswersPeers")
    }
}

impl Slot {
    /// True for the first who asks.
    pub(super) fn take(&self) -> bool {
        !self.taken.swap(true, Ordering::SeqCst)
    }

    /// Where its trees go; the first who asks has it for himself.
    pub(super) fn take_delivery(&self) -> Option<Delivery> {
        self.delivery.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The streams that are expected here.
#[derive(Debug, Default)]
pub struct Arrivals {
    slots: Mutex<HashMap<Uuid, Arc<Slot>>>,
    /// Tickets of migrations that peers may still ask about.
    kept: Mutex<HashMap<Uuid, TicketKey>>,
    answers: OnceLock<AnswersPeers>,
    pub(super) bandwidth: Arc<super::Bandwidth>,
}

impl Arrivals {
    /// Nothing is expected yet.
    pub fn new(bandwidth: Arc<super::Bandwidth>) -> Arrivals {
        Arrivals { bandwidth, ..Arrivals::default() }
    }

    /// Expects a stream whose files go into `folder`, one folder a [`super::Kind`].
    pub fn expect(&self, migration: Uuid, ticket: TicketKey, folder: &Path, peer: &str) {
        let slot = Slot {
            ticket,
            folder: folder.to_owned(),
            peer: peer.to_owned(),
            arrival: watch::Sender::new(Arrival::Awaited),
            cancel: CancellationToken::new(),
            delivery: Mutex::default(),
            memory: OnceLock::new(),
            pages: Mutex::default(),
            prepared: watch::Sender::new(false),
            ready: watch::Sender::new(false),
            taken: AtomicBool::new(false),
        };
        if let Some(old) = self.lock().insert(migration, Arc::new(slot)) {
            old.cancel.cancel();
        }
    }

    /// Where the trees go that an expected stream brings. Without it such a stream is rejected.
    pub fn deliver(&self, migration: Uuid, delivery: Delivery) {
        if let Some(slot) = self.slot(migration) {
            *slot.delivery.lock().unwrap_or_else(PoisonError::into_inner) = Some(delivery);
        }
    }

    /// Who takes the memory of an expected migration. Without, such connections are closed.
    pub fn take_pages(&self, migration: Uuid, takes: TakesPages) {
        if let Some(slot) = self.slot(migration) {
            *slot.pages.lock().unwrap_or_else(PoisonError::into_inner) = Some(takes);
        }
    }

    /// What the source said of memory: `Some(commit_first)` when it comes apart.
    pub fn memory_apart(&self, migration: Uuid) -> Option<bool> {
        self.slot(migration)?.memory.get().copied()
    }

    /// True once the source could freeze: the first of its images are there.
    pub fn prepared(&self, migration: Uuid) -> Option<watch::Receiver<bool>> {
        self.slot(migration).map(|slot| slot.prepared.subscribe())
    }

    /// This end is ready for the freeze, or will not be any earlier.
    pub fn ready(&self, migration: Uuid) {
        if let Some(slot) = self.slot(migration) {
            slot.ready.send_replace(true);
        }
    }

    /// How the stream is doing; `None` when none is expected.
    pub fn watch(&self, migration: Uuid) -> Option<watch::Receiver<Arrival>> {
        self.slot(migration).map(|slot| slot.arrival.subscribe())
    }

    /// Bytes a second from that source in earlier transfers.
    pub fn rate(&self, migration: Uuid) -> Option<f64> {
        let slot = self.slot(migration)?;
        self.bandwidth.snapshot().get(&slot.peer).map(|mbps| mbps * 1e6 / 8.0)
    }

    /// Expects it no longer; a connection is cut.
    pub fn forget(&self, migration: Uuid) {
        if let Some(slot) = self.lock().remove(&migration) {
            slot.cancel.cancel();
        }
    }

    /// Keeps a ticket with which a peer may ask about the migration, also when nothing of it is expected any more.
    pub fn keep(&self, migration: Uuid, ticket: TicketKey) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(migration, ticket);
    }

    /// Keeps only the tickets of these migrations.
    pub fn keep_only(&self, known: impl Fn(Uuid) -> bool) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).retain(|migration, _| known(*migration));
    }

    /// Who says how a migration stands here. The first one counts.
    pub fn answer_with(&self, answers: AnswersPeers) {
        let _ = self.answers.set(answers);
    }

    pub(super) fn stands(&self, migration: Uuid) -> Stands {
        self.answers.get().map_or(Stands::Open, |answers| (answers.0)(migration))
    }

    pub(super) fn ticket(&self, migration: Uuid) -> Option<TicketKey> {
        let expected = self.slot(migration).map(|slot| slot.ticket.clone());
        expected.or_else(|| self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(&migration).cloned())
    }

    pub(super) fn slot(&self, migration: Uuid) -> Option<Arc<Slot>> {
        self.lock().get(&migration).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes connections for ever. Each has its own task: a slow one delays nobody.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
        loop {
            let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, address)) => {
                    let arrivals = Arc::clone(&self);
                    let span = tracing::error_span!("transfer", migration = tracing::field::Empty);
                    let serving = async move {
                        if let Err(error) = incoming::serve(&arrivals, stream, permit).await {
                            tracing::warn!(%address, %error, "a transfer connection ended");
                        }
                    };
                    tokio::spawn(serving.instrument(span));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot take a transfer connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}
