//! Destination: memory that comes in, from the first round to the last page.
//!
//! ```text
//! Pages ──► store ─────────────┐                      (the container still runs at the source)
//! Pages, Zeros, Same ──────────┴─► Spaces             (CRIU has restored the processes)
//! userfaultfd events ─► the pager ─► Fetch ─► source  (a process needs a page now)
//! ```
//!
//! Threads: one for each connection, and the pager, which takes CRIU's descriptors and reads the processes' events.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use tokio::sync::watch;

use super::filler::{Handled, Space, Spaces, Wanted};
use super::keeper::{Keeper, receive};
use super::kernel::page_size;
use super::pagemap::lazy_pages;
use super::runs::Runs;
use super::store::Store;
use crate::transfer::TransferError;
use crate::transfer::pages::{LARGEST, Lane, PageLink, PageMessage, PageReader, PageWriter, cut};

/// CRIU's word for "every process is there" on the socket where it hands its descriptors over.
const RESTORED: u32 = 0x5253_5446;

/// The socket's name, in CRIU's working folder.
const SOCKET: &str = "lazy-pages.socket";

/// The other end hears of us at least so often.
const ALIVE: Duration = Duration::from_secs(5);

/// So long the commit of a container that runs ahead of its memory may take before memory flows beside it.
const HEAD_START: Duration = Duration::from_millis(100);

/// What was sent and is still missing is asked for again so often.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// How far it has come.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FillStatus {
    /// Bytes that the processes have in all.
    pub total: u64,
    /// Bytes that are still to come.
    pub missing: u64,
    /// Bytes of content that came in rounds, while the container ran.
    pub ahead_bytes: u64,
    /// Bytes of content that came since it is frozen.
    pub frozen_bytes: u64,
    /// Pages that a process had to wait for.
    pub faults: u64,
    /// CRIU has handed over every process.
    pub restored: bool,
    /// Nothing is missing any more.
    pub whole: bool,
    /// And the source knows.
    pub acknowledged: bool,
    /// What cannot be repaired.
    pub broken: Option<String>,
    /// Since when no connection brings memory.
    pub cut_off: Option<Instant>,
}

/// One migration's memory at its destination.
pub struct PagesIn {
    store: Store,
    spaces: Spaces,
    shared: Mutex<Shared>,
    /// Something in `shared` changed.
    changed: Condvar,
    /// Wakes the pager.
    bell: OwnedFd,
    status: watch::Sender<FillStatus>,
    /// Writes down that a container which runs ahead has all of its memory.
    note: Box<dyn Fn() -> io::Result<()> + Send + Sync>,
}

#[derive(Default)]
struct Shared {
    /// Where to ask for pages.
    urgent: Option<PageWriter>,
    /// The open connections.
    links: Vec<TcpStream>,
    open: usize,
    keeper: Option<Keeper>,
    /// The container runs before all of its memory is there.
    runs_ahead: bool,
    /// It may begin to.
    guarded: bool,
    /// Of what was sent while the container ran: whether all of it is in the store.
    ahead: Ahead,
    /// The source has sent all.
    all_sent: bool,
    stopped: bool,
}

/// What was sent while the container ran, over the first connection of its kind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Ahead {
    #[default]
    Comes,
    Kept,
    /// That connection ended before its end: nobody knows what of it is kept. The source sends all of it again.
    Lost,
}

impl std::fmt::Debug for PagesIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PagesIn").field("status", &*self.status.borrow()).finish_non_exhaustive()
    }
}

impl PagesIn {
    /// `store`: a folder on tmpfs for what comes ahead. `note` writes down durably that a container which runs ahead of its
    /// memory has all of it; the source hears so only after that.
    pub fn new(store: &Path, note: Box<dyn Fn() -> io::Result<()> + Send + Sync>) -> io::Result<Arc<PagesIn>> {
        Ok(Arc::new(PagesIn {
            note,
            store: Store::new(store),
            spaces: Spaces::default(),
            shared: Mutex::default(),
            changed: Condvar::new(),
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            status: watch::Sender::new(FillStatus::default()),
        }))
    }

    /// How far it has come.
    pub fn watch(&self) -> watch::Receiver<FillStatus> {
        self.status.subscribe()
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    /// Takes a connection; a thread of its own serves it.
    pub fn take(self: &Arc<Self>, link: PageLink) {
        let Ok(cutter) = link.cutter() else { return };
        {
            let mut shared = self.shared();
            if shared.stopped {
                return;
            }
            shared.links.push(cutter);
            shared.open += 1;
        }
        self.status.send_modify(|status| status.cut_off = None);
        let (pages, span) = (Arc::clone(self), tracing::Span::current());
        let name = format!("pages-in-{:?}", link.lane).to_lowercase();
        let spawned = std::thread::Builder::new().name(name).spawn(move || {
            let _inside = span.entered();
            let bulk = link.lane == Lane::Bulk;
            let served = pages.serve(link);
            let mut shared = pages.shared();
            if bulk && shared.ahead == Ahead::Comes {
                shared.ahead = Ahead::Lost;
            }
            shared.open -= 1;
            if shared.open == 0 {
                shared.links.clear();
                shared.urgent = None;
                drop(shared);
                pages.status.send_modify(|status| status.cut_off = Some(Instant::now()));
            } else {
                drop(shared);
            }
            if let Err(error) = served
                && !pages.is_over()
            {
                tracing::warn!(%error, "a connection that brings memory ended");
                if matches!(error, TransferError::File(_) | TransferError::Damaged(_)) {
                    pages.broke(&error.to_string());
                }
            }
        });
        if let Err(error) = spawned {
            self.broke(&error.to_string());
        }
    }

    fn is_over(&self) -> bool {
        self.status.borrow().whole || self.shared().stopped
    }

    fn broke(&self, reason: &str) {
        self.status.send_modify(|status| {
            status.broken.get_or_insert_with(|| reason.to_owned());
        });
        self.ring();
    }

    fn serve(&self, link: PageLink) -> Result<(), TransferError> {
        let PageLink { mut reader, mut writer, lane } = link;
        match lane {
            Lane::Urgent => {
                if self.status.borrow().whole {
                    writer.write(&PageMessage::Whole)?;
                }
                self.shared().urgent = Some(writer);
                self.ring();
                self.receive(&mut reader, true, None)
            }
            Lane::Bulk => self.receive(&mut reader, false, Some(writer)),
        }
    }

    /// `frozen`: what comes is final and belongs into the processes; before, into the store.
    fn receive(
        &self,
        reader: &mut PageReader,
        mut frozen: bool,
        mut writer: Option<PageWriter>,
    ) -> Result<(), TransferError> {
        let bulk = writer.is_some();
        let mut scratch = vec![0; LARGEST];
        let (mut told, mut heard) = (Instant::now(), Instant::now());
        loop {
            if told.elapsed() > ALIVE {
                told = Instant::now();
                match &mut writer {
                    Some(writer) => writer.write(&PageMessage::Alive)?,
                    None => {
                        if let Some(urgent) = &mut self.shared().urgent {
                            urgent.write(&PageMessage::Alive)?;
                        }
                    }
                }
            }
            let message = match reader.read()? {
                Some(message) => message,
                // Before, the source may have other things to do than to say that it lives.
                None if heard.elapsed() > crate::transfer::IDLE && self.status.borrow().restored => {
                    return Err(TransferError::Idle);
                }
                None => continue,
            };
            heard = Instant::now();
            match message {
                PageMessage::Alive => {}
                PageMessage::Frozen => {
                    frozen = true;
                    if bulk {
                        let mut shared = self.shared();
                        if shared.ahead == Ahead::Comes {
                            shared.ahead = Ahead::Kept;
                        }
                        drop(shared);
                        self.wait_for_processes();
                    }
                }
                PageMessage::All => {
                    self.shared().all_sent = true;
                    self.ring();
                }
                PageMessage::Pages { pid, address, content } => self.content(frozen, pid, address, content)?,
                PageMessage::Packed { pid, address, content: (len, packed) } => {
                    let into = scratch.get_mut(..len as usize).ok_or(DAMAGED)?;
                    let unpacked = lz4_flex::block::decompress_into(packed, into).map_err(|_| DAMAGED)?;
                    if unpacked != into.len() {
                        return Err(DAMAGED);
                    }
                    self.content(frozen, pid, address, into)?;
                }
                PageMessage::Zeros { pid, address, len } => {
                    whole_pages(address, len)?;
                    if frozen {
                        self.each(pid, |space| space.put_zeros(address, len))?;
                        self.store.forget(pid, address, len).map_err(stored)?;
                    } else {
                        self.store.put_zeros(pid, address, len).map_err(stored)?;
                    }
                }
                // Only behind what it speaks of, on the same connection.
                PageMessage::Same { pid, address, len } if frozen && bulk => {
                    if self.shared().ahead != Ahead::Kept {
                        return Err(io::Error::other("what came ahead was lost with its connection").into());
                    }
                    self.same(pid, address, len, &mut scratch)?;
                }
                PageMessage::Gone if self.status.borrow().whole => {}
                PageMessage::Gone => self.broke("the source's frozen copy has ended"),
                // The source has heard it.
                PageMessage::Whole if self.status.borrow().whole => {
                    self.status.send_modify(|status| status.acknowledged = true);
                }
                PageMessage::Same { .. } | PageMessage::Fetch { .. } | PageMessage::Whole => return Err(DAMAGED),
            }
            if frozen {
                self.count();
            }
        }
    }

    /// CRIU must have made every process before anything is put into one that does not wait for it. Where the container
    /// runs ahead of its memory, the rest of the restore and the commit come first: they need the same CPUs, and what is
    /// wanted meanwhile comes on its own connection.
    fn wait_for_processes(&self) {
        let mut shared = self.shared();
        while !shared.stopped && (!self.status.borrow().restored || (shared.runs_ahead && !shared.guarded)) {
            shared = self.changed.wait(shared).unwrap_or_else(PoisonError::into_inner);
        }
        if shared.runs_ahead {
            let (since, faults) = (Instant::now(), self.status.borrow().faults);
            // A process that needs a page runs.
            while !shared.stopped && since.elapsed() < HEAD_START && self.status.borrow().faults == faults {
                let waited = self.changed.wait_timeout(shared, HEAD_START / 20);
                (shared, _) = waited.unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    fn content(&self, frozen: bool, pid: u32, address: u64, content: &[u8]) -> Result<(), TransferError> {
        let len = content.len() as u64;
        whole_pages(address, len)?;
        if frozen {
            self.each(pid, |space| space.put(address, content))?;
            self.store.forget(pid, address, len).map_err(stored)?;
            self.status.send_if_modified(|status| {
                status.frozen_bytes += len;
                false
            });
        } else {
            self.store.put(pid, address, content).map_err(stored)?;
            self.status.send_if_modified(|status| {
                status.ahead_bytes += len;
                false
            });
        }
        Ok(())
    }

    /// What came ahead is right.
    fn same(&self, pid: u32, address: u64, len: u64, scratch: &mut [u8]) -> Result<(), TransferError> {
        whole_pages(address, len)?;
        let (mut at, end) = (address, address + len);
        while at < end {
            let step = (end - at).min(scratch.len() as u64);
            let into = scratch.get_mut(..usize::try_from(step).unwrap_or_default()).unwrap_or_default();
            // Only what is still missing is still kept.
            let missing = self.spaces.of(pid).iter().any(|space| !space.pieces(at, step).is_empty());
            if missing {
                self.store.get(pid, at, into).map_err(stored)?;
                self.each(pid, |space| space.put(at, into))?;
                self.store.forget(pid, at, step).map_err(stored)?;
            }
            at += step;
        }
        Ok(())
    }

    fn each(&self, pid: u32, put: impl Fn(&Space) -> io::Result<()>) -> Result<(), TransferError> {
        for space in self.spaces.of(pid) {
            put(&space).map_err(|error| TransferError::File(format!("memory cannot be filled: {error}")))?;
        }
        Ok(())
    }

    /// Looks whether anything is missing, and ends it when nothing is.
    fn count(&self) {
        let missing = self.spaces.missing();
        let whole = self.status.send_if_modified(|status| {
            let changed = status.missing != missing;
            status.missing = missing;
            changed
        });
        if whole && missing == 0 {
            self.ring();
        }
    }

    /// Takes CRIU's descriptors from now on; call it before the restore begins. `images` are complete.
    pub fn expect_processes(self: &Arc<Self>, images: &Path, work: &Path, runs_ahead: bool) -> io::Result<()> {
        self.shared().runs_ahead = runs_ahead;
        let pages = lazy_pages(images)?;
        let total = pages.values().map(Runs::bytes).sum();
        self.status.send_modify(|status| (status.total, status.missing) = (total, total));
        let path = work.join(SOCKET);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        let (own, span) = (Arc::clone(self), tracing::Span::current());
        std::thread::Builder::new().name("pager".into()).spawn(move || {
            let _inside = span.entered();
            if let Err(error) = own.page(&listener, pages)
                && !own.is_over()
            {
                tracing::error!(%error, "the pager ended");
                own.broke(&format!("the pager ended: {error}"));
            }
        })?;
        Ok(())
    }

    /// The pager.
    fn page(&self, listener: &UnixListener, mut pages: BTreeMap<u32, Runs>) -> io::Result<()> {
        let Some(criu) = self.accept(listener)? else { return Ok(()) };
        let mut criu = Some(criu);
        let mut asked = Instant::now();
        loop {
            let spaces = self.spaces.all();
            let (mut rings, mut from_criu, mut events) = (false, false, Vec::new());
            {
                let mut fds = vec![PollFd::new(&self.bell, PollFlags::IN)];
                fds.extend(criu.iter().map(|criu| PollFd::new(criu, PollFlags::IN)));
                let first = fds.len();
                fds.extend(spaces.iter().map(|space| PollFd::from_borrowed_fd(space.as_fd(), PollFlags::IN)));
                let patience = rustix::time::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
                match poll(&mut fds, Some(&patience)) {
                    Ok(_) => {}
                    Err(rustix::io::Errno::INTR) => continue,
                    Err(error) => return Err(error.into()),
                }
                for (at, _) in fds.iter().enumerate().filter(|(_, fd)| !fd.revents().is_empty()) {
                    match at {
                        0 => rings = true,
                        at if at < first => from_criu = true,
                        at => events.push(at - first),
                    }
                }
            }
            if rings {
                let _ = rustix::io::read(&self.bell, &mut [0; 8]);
            }
            for space in events.into_iter().filter_map(|at| spaces.get(at)) {
                self.events(space)?;
            }
            if from_criu && let Some(stream) = &criu {
                match self.hear_criu(stream, &mut pages)? {
                    Heard::Process => {}
                    Heard::Restored => criu = None,
                    Heard::End => return Err(io::Error::other("CRIU ended before every process was restored")),
                }
            }
            if self.shared().stopped || self.status.borrow().broken.is_some() {
                return Ok(());
            }
            if self.status.borrow().restored {
                self.count();
                if self.spaces.missing() == 0 {
                    return self.finish();
                }
                if self.shared().all_sent && asked.elapsed() > ASK_AGAIN {
                    asked = Instant::now();
                    self.ask_for_the_rest();
                }
            }
        }
    }

    fn accept(&self, listener: &UnixListener) -> io::Result<Option<UnixStream>> {
        listener.set_nonblocking(true)?;
        loop {
            match listener.accept() {
                Ok((stream, _)) => return Ok(Some(stream)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            let mut fds = [PollFd::new(&self.bell, PollFlags::IN), PollFd::new(listener, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let _ = rustix::io::read(&self.bell, &mut [0; 8]);
            if self.shared().stopped {
                return Ok(None);
            }
        }
    }

    /// A process's id with its descriptor, an ended process's negative id, or the end of the restore.
    fn hear_criu(&self, stream: &UnixStream, pages: &mut BTreeMap<u32, Runs>) -> io::Result<Heard> {
        let mut word = [0; 4];
        if receive(stream, &mut word)?.is_none_or(|(count, _)| count != 4) {
            return Ok(Heard::End);
        }
        if u32::from_ne_bytes(word) == RESTORED {
            for space in self.spaces.all() {
                space.set_made();
            }
            self.status.send_modify(|status| status.restored = true);
            drop(self.shared());
            self.changed.notify_all();
            return Ok(Heard::Restored);
        }
        let Ok(pid) = u32::try_from(i32::from_ne_bytes(word)) else { return Ok(Heard::Process) };
        let uffd = receive(stream, &mut [0; 16])?.and_then(|(_, descriptor)| descriptor);
        let uffd = uffd.ok_or_else(|| io::Error::other("CRIU sent a process without a descriptor"))?;
        let missing = pages.remove(&pid).unwrap_or_default();
        self.spaces.add(Arc::new(Space::new(pid, uffd, missing)));
        Ok(Heard::Process)
    }

    fn events(&self, space: &Arc<Space>) -> io::Result<()> {
        while let Some(handled) = space.handle()? {
            match handled {
                Handled::Nothing => {}
                Handled::Wanted(wanted) => {
                    self.status.send_if_modified(|status| {
                        status.faults += 1;
                        false
                    });
                    self.fetch(wanted);
                }
                Handled::Born(child) => {
                    if let Some(keeper) = &self.shared().keeper {
                        keeper.hold(child.as_fd())?;
                    }
                    self.spaces.add(child);
                }
            }
        }
        Ok(())
    }

    /// When there is no way to the source it is asked again later, by `ask_for_the_rest`.
    fn fetch(&self, wanted: Wanted) {
        let Wanted { pid, address, len } = wanted;
        if let Some(urgent) = &mut self.shared().urgent {
            drop(urgent.write(&PageMessage::Fetch { pid, address, len }));
        }
    }

    fn ask_for_the_rest(&self) {
        for space in self.spaces.all() {
            let mut from = 0;
            for _ in 0..64 {
                let Some(piece) = space.first_missing(from, LARGEST as u64) else { break };
                self.fetch(Wanted { pid: space.pid(), address: piece.image, len: piece.len });
                from = piece.image + piece.len;
            }
        }
    }

    /// The keeper lets go, then it is written down, then the source hears of it: an agent that ends in between leaves either
    /// the source's copy or one here that it knows to be whole. Whoever gives up at the same moment comes before or after
    /// all of this.
    fn finish(&self) -> io::Result<()> {
        let mut shared = self.shared();
        if shared.stopped {
            return Ok(());
        }
        self.spaces.close();
        if let Some(keeper) = shared.keeper.take() {
            keeper.release()?;
        }
        if shared.runs_ahead {
            (self.note)()?;
        }
        self.status.send_modify(|status| (status.missing, status.whole) = (0, true));
        if let Some(urgent) = &mut shared.urgent {
            // Where this does not arrive, the source comes again and is told then.
            drop(urgent.write(&PageMessage::Whole));
        }
        drop(shared);
        self.changed.notify_all();
        Ok(())
    }

    /// The container goes on before all is there: from now on its first process dies with this program. Nothing to do
    /// when nothing is missing any more.
    pub fn guard(&self, init: i32) -> io::Result<()> {
        let keeper = Keeper::start(init)?;
        let mut shared = self.shared();
        for space in self.spaces.all() {
            keeper.hold(space.as_fd())?;
        }
        shared.guarded = true;
        if self.status.borrow().whole {
            drop(shared);
            return keeper.release();
        }
        shared.keeper = Some(keeper);
        drop(shared);
        self.changed.notify_all();
        Ok(())
    }

    /// Gives up. The container is dead when this returns, if it was guarded and anything was missing.
    pub fn stop(&self) {
        let keeper = {
            let mut shared = self.shared();
            shared.stopped = true;
            shared.links.iter().for_each(cut);
            shared.keeper.take()
        };
        self.changed.notify_all();
        self.ring();
        if let Some(keeper) = keeper
            && let Err(error) = keeper.kill()
        {
            tracing::error!(%error, "the keeper of the pages failed");
        }
        // Whoever still waits for a page is dead, or was never let run.
        self.spaces.close();
    }
}

/// What CRIU said.
enum Heard {
    Process,
    Restored,
    End,
}

const DAMAGED: TransferError = TransferError::Damaged("a message about memory");

fn stored(error: io::Error) -> TransferError {
    TransferError::File(format!("memory cannot be kept: {error}"))
}

/// Anything else would never come to an end.
fn whole_pages(address: u64, len: u64) -> Result<(), TransferError> {
    let whole = address.is_multiple_of(page_size()) && len.is_multiple_of(page_size()) && len > 0;
    if whole && address.checked_add(len).is_some() { Ok(()) } else { Err(DAMAGED) }
}
