//! Source: sends memory, in rounds while the container runs and for good once it is frozen.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::watch;
use uuid::Uuid;

use super::kernel::page_size;
use super::pagemap::lazy_pages;
use super::runs::Runs;
use super::scan::{self, Known};
use crate::transfer::pages::{LARGEST, Lane, PageLink, PageMessage, PageReader, PageWriter, cut};
use crate::transfer::{IDLE, Stands, TicketKey, TransferError, ask, page_link};

/// The other end hears of us at least so often.
const ALIVE: Duration = Duration::from_secs(5);

/// Between two attempts to reach the destination again.
const PAUSE: Duration = Duration::from_millis(500);

/// After a chunk that would not shrink, so many are sent as they are.
const INCOMPRESSIBLE: u32 = 15;

/// Where memory goes, and how.
#[derive(Debug, Clone)]
pub struct Source {
    /// `host:port` of the destination.
    pub address: String,
    /// The migration.
    pub migration: Uuid,
    /// Its secret.
    pub ticket: TicketKey,
    /// Compress what can be compressed.
    pub compress: bool,
    /// At most so many bytes a second.
    pub cap: Option<f64>,
}

/// How far it has come.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SendStatus {
    /// Bytes that went over the network.
    pub sent: u64,
    /// Of these, in rounds while the container ran.
    pub ahead: u64,
    /// Memory whose content was sent, before compression.
    pub content: u64,
    /// Memory that is to be accounted for once frozen, and what of it is not yet.
    pub total: u64,
    /// See `total`.
    pub left: u64,
    /// The destination said that nothing is missing.
    pub whole: bool,
    /// How long that took since the container was dumped.
    pub took: Option<Duration>,
    /// What cannot be repaired.
    pub broken: Option<String>,
    /// Since when the destination cannot be reached.
    pub cut_off: Option<Instant>,
}

/// One round over the running container's memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Round {
    /// Memory that was sent, before compression.
    pub content: u64,
    /// Bytes that went over the network.
    pub sent: u64,
    /// How long it took.
    pub took: Duration,
}

/// One migration's memory at its source.
pub struct PagesOut {
    source: Source,
    pids: Mutex<BTreeMap<u32, i32>>,
    known: RwLock<Known>,
    shared: Mutex<Shared>,
    changed: Condvar,
    status: watch::Sender<SendStatus>,
    runtime: Handle,
}

#[derive(Default)]
struct Shared {
    links: Option<(PageLink, PageLink)>,
    cutters: Vec<TcpStream>,
    all: BTreeMap<u32, Runs>,
    unsent: BTreeMap<u32, Runs>,
    /// Behind what was asked for last.
    hint: Option<(u32, u64)>,
    stopped: bool,
}

impl std::fmt::Debug for PagesOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PagesOut").field("status", &*self.status.borrow()).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PagesOut {
    /// Connects. `seed` is for the hashes; it must not be predictable for the container.
    pub async fn connect(source: Source, seed: u64) -> Result<Arc<PagesOut>, TransferError> {
        let links = links(&source).await?;
        let pages = PagesOut::new(source, seed);
        pages.adopt(links)?;
        Ok(pages)
    }

    /// Without a connection yet: [`PagesOut::begin`] makes one.
    pub fn new(source: Source, seed: u64) -> Arc<PagesOut> {
        Arc::new(PagesOut {
            source,
            pids: Mutex::default(),
            known: RwLock::new(Known::new(seed)),
            shared: Mutex::default(),
            changed: Condvar::new(),
            status: watch::Sender::new(SendStatus::default()),
            runtime: Handle::current(),
        })
    }

    fn adopt(&self, links: (PageLink, PageLink)) -> Result<(), TransferError> {
        let cutters = vec![links.0.cutter()?, links.1.cutter()?];
        let mut shared = lock(&self.shared);
        if shared.stopped {
            cutters.iter().for_each(cut);
        }
        shared.cutters = cutters;
        shared.links = Some(links);
        Ok(())
    }

    /// How far it has come.
    pub fn watch(&self) -> watch::Receiver<SendStatus> {
        self.status.subscribe()
    }

    /// Goes over the running processes (by their ids inside the container) once and sends what changed. Blocking.
    pub fn round(&self, pids: &BTreeMap<u32, i32>) -> Result<Round, TransferError> {
        let began = Instant::now();
        let Some((mut bulk, urgent)) = lock(&self.shared).links.take() else {
            return Err(TransferError::Damaged("the connection for memory is gone"));
        };
        let before = bulk.writer.sent;
        let mut sender = Sender::new(&mut bulk.writer, &self.source);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = Vec::new();
        let mut result = Ok(());
        for (vpid, pid) in pids {
            let mut say = |message: PageMessage<'_>| {
                if lock(&self.shared).stopped {
                    return Err(TransferError::File("the migration was given up".into()));
                }
                sender.say(message)?;
                self.status.send_if_modified(|status| {
                    status.content = sender.content;
                    false
                });
                Ok(())
            };
            result = scan::round(&mut known, *vpid, *pid, &mut buffer, &mut say);
            if result.is_err() {
                break;
            }
        }
        let content = sender.content;
        let sent = bulk.writer.sent - before;
        lock(&self.shared).links = Some((bulk, urgent));
        result?;
        self.status.send_modify(|status| (status.sent, status.ahead) = (status.sent + sent, status.ahead + sent));
        Ok(Round { content, sent, took: began.elapsed() })
    }

    /// Says that the connection is still wanted.
    pub fn alive(&self) -> Result<(), TransferError> {
        match &mut lock(&self.shared).links {
            Some((bulk, urgent)) => {
                bulk.writer.write(&PageMessage::Alive)?;
                urgent.writer.write(&PageMessage::Alive)
            }
            None => Ok(()),
        }
    }

    /// The container is frozen and dumped: everything goes out now, what is asked for first. Returns at once.
    pub fn begin(self: &Arc<Self>, images: &Path, pids: BTreeMap<u32, i32>) -> std::io::Result<()> {
        let all = lazy_pages(images)?;
        if let Some(pid) = all.keys().find(|pid| !pids.contains_key(pid)) {
            return Err(std::io::Error::other(format!("process {pid} of the images is not in the container")));
        }
        let total = all.values().map(Runs::bytes).sum();
        self.status.send_modify(|status| (status.total, status.left) = (total, total));
        *lock(&self.pids) = pids;
        {
            let mut shared = lock(&self.shared);
            shared.unsent = all.clone();
            shared.all = all;
        }
        let (own, span) = (Arc::clone(self), tracing::Span::current());
        std::thread::Builder::new().name("pages-out".into()).spawn(move || span.in_scope(|| own.run()))?;
        Ok(())
    }

    fn run(self: Arc<Self>) {
        let began = Instant::now();
        loop {
            let links = lock(&self.shared).links.take();
            let ended = match links {
                Some((bulk, urgent)) => {
                    self.status.send_modify(|status| status.cut_off = None);
                    self.session(bulk, urgent)
                }
                None => Ok(false),
            };
            match ended {
                Ok(true) => {
                    self.status.send_modify(|status| {
                        (status.left, status.whole, status.took) = (0, true, Some(began.elapsed()));
                    });
                    return;
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "memory stopped flowing"),
            }
            self.status.send_modify(|status| {
                status.cut_off.get_or_insert_with(Instant::now);
            });
            // Nobody knows what of it has arrived, of the rounds before the freeze neither.
            self.known.write().unwrap_or_else(PoisonError::into_inner).forget();
            let mut shared = lock(&self.shared);
            if shared.stopped {
                return;
            }
            shared.unsent = shared.all.clone();
            let (shared, _) = self.changed.wait_timeout(shared, PAUSE).unwrap_or_else(PoisonError::into_inner);
            if shared.stopped {
                return;
            }
            drop(shared);
            match self.runtime.block_on(links_in_time(&self.source)) {
                Ok(links) => {
                    if let Err(error) = self.adopt(links) {
                        tracing::warn!(%error, "a connection for memory could not be set up");
                    }
                }
                // Restarted, the destination takes no memory any more, and knows whether it has all of it.
                Err(_) if self.runtime.block_on(self.is_whole()) => {
                    self.status.send_modify(|status| (status.left, status.whole) = (0, true));
                    return;
                }
                Err(error) => {
                    tracing::info!(%error, "the destination is not reached yet");
                }
            }
        }
    }

    /// Whether the destination has it in its journal that nothing is missing.
    async fn is_whole(&self) -> bool {
        let Source { address, migration, ticket, .. } = &self.source;
        matches!(ask(address, *migration, ticket.clone()).await, Ok(Stands::Whole))
    }

    /// Whether the destination said that nothing is missing.
    fn session(&self, bulk: PageLink, urgent: PageLink) -> Result<bool, TransferError> {
        let (bulk_cutter, urgent_cutter) = (bulk.cutter()?, urgent.cutter()?);
        let PageLink { mut reader, mut writer, .. } = urgent;
        let mut bulk_writer = bulk.writer;
        std::thread::scope(|scope| {
            let answering = std::thread::Builder::new().name("pages-asked".into()).spawn_scoped(scope, || {
                let whole = self.answer(&mut reader, &mut writer);
                cut(&bulk_cutter);
                whole
            });
            let answering = answering?;
            let pushed = self.push(&mut bulk_writer, &answering);
            if pushed.is_err() {
                cut(&urgent_cutter);
            }
            let answered = answering.join().unwrap_or(Err(TransferError::Damaged("a thread ended")));
            match (answered, pushed) {
                (Ok(()), _) => Ok(true),
                (Err(_), Err(error)) | (Err(error), Ok(())) => Err(error),
            }
        })
    }

    /// Answers what is asked for; ends well when the destination says that it has all.
    fn answer(&self, reader: &mut PageReader, writer: &mut PageWriter) -> Result<(), TransferError> {
        let (mut told, mut heard, mut buffer) = (Instant::now(), Instant::now(), Vec::new());
        let nothing = Known::default();
        loop {
            if told.elapsed() > ALIVE {
                told = Instant::now();
                writer.write(&PageMessage::Alive)?;
            }
            let message = match reader.read()? {
                Some(message) => message,
                None if heard.elapsed() > IDLE => return Err(TransferError::Idle),
                None => continue,
            };
            heard = Instant::now();
            match message {
                PageMessage::Alive => {}
                PageMessage::Whole => {
                    // So that the destination need not wait for us to come again.
                    let _ = writer.write(&PageMessage::Whole);
                    return Ok(());
                }
                PageMessage::Fetch { pid, address, len } => {
                    let pieces = lock(&self.shared).all.get(&pid).map(|all| all.pieces(address, len));
                    for piece in pieces.into_iter().flatten() {
                        // Content itself: what went ahead may still be on its way, on the other connection.
                        let range = (piece.image, piece.len);
                        let mut say = |message: PageMessage<'_>| writer.write(&message);
                        let sent = self.send(&nothing, pid, range, &mut buffer, &mut say);
                        if !self.or_gone(sent, writer)? {
                            break;
                        }
                        self.account(pid, piece.image, piece.len);
                    }
                    lock(&self.shared).hint = Some((pid, address + len));
                }
                _ => return Err(TransferError::Damaged("a message about memory")),
            }
        }
    }

    /// Memory that cannot be read any more is told to the destination, which may have it already. `false`: it was told.
    fn or_gone(&self, sent: Result<(), TransferError>, writer: &mut PageWriter) -> Result<bool, TransferError> {
        match sent {
            Ok(()) => Ok(true),
            Err(error) if self.status.borrow().broken.is_some() => {
                tracing::warn!(%error, "memory of the frozen container is gone");
                writer.write(&PageMessage::Gone).map(|()| false)
            }
            Err(error) => Err(error),
        }
    }

    fn send(
        &self,
        known: &Known,
        vpid: u32,
        range: (u64, u64),
        buffer: &mut Vec<u8>,
        say: scan::Say<'_, TransferError>,
    ) -> Result<(), TransferError> {
        let pid = lock(&self.pids).get(&vpid).copied().unwrap_or_default();
        let unreadable = |address: u64| {
            let reason = format!("the memory of process {vpid} at {address:#x} cannot be read");
            self.status.send_modify(|status| status.broken = Some(reason.clone()));
            TransferError::File(reason)
        };
        scan::frozen(known, (vpid, pid), range, buffer, unreadable, say)
    }

    fn account(&self, pid: u32, address: u64, len: u64) {
        let left = {
            let mut shared = lock(&self.shared);
            if let Some(unsent) = shared.unsent.get_mut(&pid) {
                unsent.forget(address, len);
            }
            shared.unsent.values().map(Runs::bytes).sum()
        };
        self.status.send_modify(|status| status.left = left);
    }

    /// What to send next: behind what was asked for last, else from the beginning.
    fn next(&self) -> Option<(u32, u64, u64)> {
        let mut shared = lock(&self.shared);
        let hinted = shared.hint.and_then(|(pid, address)| {
            let piece = shared.unsent.get(&pid)?.first(address, LARGEST as u64)?;
            Some((pid, piece.image, piece.len))
        });
        if hinted.is_none() {
            shared.hint = None;
        }
        let found = hinted.or_else(|| {
            shared.unsent.iter().find_map(|(pid, unsent)| {
                let piece = unsent.first(0, LARGEST as u64)?;
                Some((*pid, piece.image, piece.len))
            })
        });
        if let Some((pid, address, len)) = found {
            if let Some(unsent) = shared.unsent.get_mut(&pid) {
                unsent.forget(address, len);
            }
            if shared.hint.is_some() {
                shared.hint = Some((pid, address + len));
            }
        }
        found
    }

    fn push<T>(
        &self,
        writer: &mut PageWriter,
        answering: &std::thread::ScopedJoinHandle<'_, T>,
    ) -> Result<(), TransferError> {
        writer.write(&PageMessage::Frozen)?;
        let already = self.status.borrow().sent;
        let base = writer.sent;
        let (mut buffer, mut sent_all) = (Vec::new(), Ok(()));
        {
            let mut sender = Sender::new(&mut *writer, &self.source);
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            while let Some((pid, address, len)) = self.next() {
                sent_all = self.send(&known, pid, (address, len), &mut buffer, &mut |message| sender.say(message));
                if sent_all.is_err() {
                    break;
                }
                let (sent, content) = (already + sender.writer.sent - base, sender.content);
                let left = lock(&self.shared).unsent.values().map(Runs::bytes).sum();
                self.status.send_modify(|status| (status.sent, status.left, status.content) = (sent, left, content));
            }
        }
        if self.or_gone(sent_all, writer)? {
            writer.write(&PageMessage::All)?;
        }
        let mut told = Instant::now();
        while !answering.is_finished() {
            let shared = lock(&self.shared);
            if shared.stopped {
                break;
            }
            drop(self.changed.wait_timeout(shared, Duration::from_millis(20)));
            if told.elapsed() > ALIVE {
                told = Instant::now();
                writer.write(&PageMessage::Alive)?;
            }
        }
        Ok(())
    }

    /// Gives up.
    pub fn stop(&self) {
        let mut shared = lock(&self.shared);
        shared.stopped = true;
        shared.cutters.iter().for_each(cut);
        drop(shared);
        self.changed.notify_all();
    }
}

async fn links(source: &Source) -> Result<(PageLink, PageLink), TransferError> {
    let link = |lane| page_link(&source.address, source.migration, source.ticket.clone(), lane);
    let (bulk, urgent) = tokio::try_join!(link(Lane::Bulk), link(Lane::Urgent))?;
    Ok((bulk, urgent))
}

async fn links_in_time(source: &Source) -> Result<(PageLink, PageLink), TransferError> {
    tokio::time::timeout(IDLE, links(source)).await.unwrap_or(Err(TransferError::Idle))
}

/// Compresses where that helps, and keeps to the cap.
struct Sender<'a> {
    writer: &'a mut PageWriter,
    compress: bool,
    /// So many more chunks are not worth trying.
    skip: u32,
    packed: Vec<u8>,
    content: u64,
    cap: Option<f64>,
    began: Instant,
    base: u64,
}

impl<'a> Sender<'a> {
    fn new(writer: &'a mut PageWriter, source: &Source) -> Sender<'a> {
        let base = writer.sent;
        let packed = vec![0; lz4_flex::block::get_maximum_output_size(LARGEST)];
        let (compress, cap) = (source.compress, source.cap);
        Sender { writer, compress, skip: 0, packed, content: 0, cap, began: Instant::now(), base }
    }

    fn say(&mut self, message: PageMessage<'_>) -> Result<(), TransferError> {
        let PageMessage::Pages { pid, address, content } = message else { return self.writer.write(&message) };
        self.content += content.len() as u64;
        let packed = self.pack(content);
        match packed {
            Some(len) => {
                let whole = u32::try_from(content.len()).unwrap_or(u32::MAX);
                self.writer.write(&PageMessage::Packed { pid, address, content: (whole, &self.packed[..len]) })?;
            }
            None => self.writer.write(&message)?,
        }
        if let Some(cap) = self.cap.filter(|cap| *cap > 0.0) {
            let due = Duration::from_secs_f64((self.writer.sent - self.base) as f64 / cap);
            std::thread::sleep(due.saturating_sub(self.began.elapsed()));
        }
        Ok(())
    }

    fn pack(&mut self, content: &[u8]) -> Option<usize> {
        if !self.compress {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        let len = lz4_flex::block::compress_into(content, &mut self.packed).ok();
        let worth = len.filter(|len| *len < content.len() / 10 * 9);
        if worth.is_none() && content.len() > page_size() as usize {
            self.skip = INCOMPRESSIBLE;
        }
        worth
    }
}

#[cfg(test)]
mod tests;
