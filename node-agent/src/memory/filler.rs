//! Destination: fills the memory of restored processes, through one userfaultfd each.
//!
//! Every byte that is still to come is counted ([`Runs`]). One lock a process guards that count *and* the reading of the
//! process's events: what a process gives up, moves or forks takes effect as soon as its event was read, so no content
//! may be put in place between the reading and the book-keeping.
//!
//! The descriptors stay open until nothing is missing: when the last one of a process closes, what has not come would
//! read as zeros, silently. A keeper ([`super::keeper`]) holds copies for the case that this program dies.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::kernel::{self, Filled, MemoryEvent, page_size};
use super::runs::{Piece, Runs};

/// What a fault asks for: a little more than the one page, for the next ones are likely to follow.
const READ_AHEAD: u64 = 32 << 10;

/// So often content is tried again at an address that the process seems to have left, before it counts as left.
const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(5);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One process's memory.
#[derive(Debug)]
pub struct Space {
    /// The process of the image whose memory this is or, for a child, was when it was forked.
    pid: u32,
    uffd: OwnedFd,
    /// All of its mappings are there. Before, CRIU is still making them.
    made: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    missing: Runs,
    /// Pages of the image that were asked for and have not come.
    asked: HashSet<u64>,
    gone: bool,
}

/// Pages that a process waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// The process of the image.
    pub pid: u32,
    /// Where they are in the image.
    pub address: u64,
    /// Bytes.
    pub len: u64,
}

/// What an event led to.
#[derive(Debug)]
pub enum Handled {
    /// Nothing to do.
    Nothing,
    /// These pages must come at once.
    Wanted(Wanted),
    /// A child was born.
    Born(Arc<Space>),
}

impl Space {
    /// The memory of a restored process.
    pub fn new(pid: u32, uffd: OwnedFd, missing: Runs) -> Space {
        let state = Mutex::new(State { missing, asked: HashSet::new(), gone: false });
        Space { pid, uffd, made: AtomicBool::new(false), state }
    }

    /// CRIU has made all of its mappings.
    pub fn set_made(&self) {
        self.made.store(true, Ordering::Release);
    }

    fn is_made(&self) -> bool {
        self.made.load(Ordering::Acquire)
    }

    /// The process of the image.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Bytes that are still to come.
    pub fn missing(&self) -> u64 {
        lock(&self.state).missing.bytes()
    }

    /// What is still to come first, at most `len` bytes of it.
    pub fn first_missing(&self, from: u64, len: u64) -> Option<Piece> {
        lock(&self.state).missing.first(from, len)
    }

    /// Reads and handles one event; `None` when there is none.
    pub fn handle(&self) -> io::Result<Option<Handled>> {
        let mut state = lock(&self.state);
        let Some(event) = kernel::next_event(&self.uffd)? else { return Ok(None) };
        Ok(Some(match event {
            MemoryEvent::Fault(address) => return self.fault(&mut state, address).map(Some),
            MemoryEvent::Fork(uffd) => {
                let child = State { missing: state.missing.clone(), asked: HashSet::new(), gone: false };
                let child = Space { pid: self.pid, uffd, made: AtomicBool::new(true), state: Mutex::new(child) };
                Handled::Born(Arc::new(child))
            }
            MemoryEvent::Remap { from, to, len } => {
                state.missing.remap(from, to, len);
                Handled::Nothing
            }
            MemoryEvent::Remove { start, end } => {
                // The kernel itself gives zeros from now on. The caller waits for nothing but our reading.
                kernel::unregister(&self.uffd, start, end - start)?;
                state.missing.remove(start, end);
                Handled::Nothing
            }
            MemoryEvent::Unmap { start, end } => {
                state.missing.remove(start, end);
                Handled::Nothing
            }
        }))
    }

    fn fault(&self, state: &mut State, address: u64) -> io::Result<Handled> {
        let len = if self.is_made() { READ_AHEAD } else { page_size() };
        let Some(piece) = state.missing.at(address, len) else {
            match kernel::fill_zero(&self.uffd, address, page_size())? {
                Filled::Present => kernel::wake(&self.uffd, address, page_size())?,
                Filled::Gone => state.give_up(),
                // A mapping that changes wakes the waiting thread itself, which then asks again.
                Filled::Bytes(_) | Filled::Changing | Filled::Elsewhere => {}
            }
            return Ok(Handled::Nothing);
        };
        if !state.asked.insert(piece.image) {
            return Ok(Handled::Nothing);
        }
        Ok(Handled::Wanted(Wanted { pid: self.pid, address: piece.image, len: piece.len }))
    }

    /// Puts content in its place as far as it is still missing. `content` begins at `image`.
    pub fn put(&self, image: u64, content: &[u8]) -> io::Result<()> {
        self.each(image, content.len() as u64, |uffd, piece| {
            let begin = usize::try_from(piece.image - image).unwrap_or(usize::MAX);
            let end = begin + usize::try_from(piece.len).unwrap_or(usize::MAX);
            kernel::fill(uffd, piece.current, content.get(begin..end).unwrap_or_default())
        })
    }

    /// Puts zeros in their place as far as they are still missing.
    pub fn put_zeros(&self, image: u64, len: u64) -> io::Result<()> {
        self.each(image, len, |uffd, piece| kernel::fill_zero(uffd, piece.current, piece.len))
    }

    /// What of this range is still missing.
    pub fn pieces(&self, image: u64, len: u64) -> Vec<Piece> {
        lock(&self.state).missing.pieces(image, len)
    }

    fn each(&self, image: u64, len: u64, fill: impl Fn(&OwnedFd, Piece) -> io::Result<Filled>) -> io::Result<()> {
        let mut tries = 0;
        let mut most = u64::MAX;
        loop {
            let mut state = lock(&self.state);
            let Some(mut piece) = state.missing.pieces(image, len).into_iter().next() else { return Ok(()) };
            piece.len = piece.len.min(most);
            match fill(&self.uffd, piece)? {
                Filled::Bytes(bytes) => state.arrived(piece.image, bytes),
                Filled::Present => {
                    state.arrived(piece.image, page_size());
                    kernel::wake(&self.uffd, piece.current, page_size())?;
                }
                Filled::Gone => state.give_up(),
                // It may reach over the end of a mapping: smaller.
                Filled::Elsewhere if piece.len > page_size() => {
                    most = (piece.len / 2).next_multiple_of(page_size()).min(piece.len - page_size());
                }
                Filled::Elsewhere if !self.is_made() => {
                    state.asked.remove(&piece.image);
                    return Ok(());
                }
                Filled::Elsewhere if tries >= TRIES => {
                    tracing::debug!(pid = self.pid, address = piece.current, "is no mapping any more");
                    state.arrived(piece.image, page_size());
                }
                // The event that tells of it may be on its way.
                Filled::Changing | Filled::Elsewhere => {
                    drop(state);
                    tries += 1;
                    std::thread::sleep(PAUSE);
                    continue;
                }
            }
            tries = 0;
            if piece.len == page_size() {
                most = u64::MAX;
            }
        }
    }
}

impl State {
    fn arrived(&mut self, image: u64, len: u64) {
        self.missing.forget(image, len);
        if !self.asked.is_empty() {
            self.asked.retain(|page| !(image..image + len).contains(page));
        }
    }

    fn give_up(&mut self) {
        self.gone = true;
        self.missing = Runs::default();
        self.asked.clear();
    }
}

/// All processes of a container.
#[derive(Debug, Default)]
pub struct Spaces(Mutex<BTreeMap<u32, Vec<Arc<Space>>>>);

impl Spaces {
    /// Adds one.
    pub fn add(&self, space: Arc<Space>) {
        lock(&self.0).entry(space.pid).or_default().push(space);
    }

    /// Those whose memory comes from this process of the image.
    pub fn of(&self, pid: u32) -> Vec<Arc<Space>> {
        lock(&self.0).get(&pid).cloned().unwrap_or_default()
    }

    /// All.
    pub fn all(&self) -> Vec<Arc<Space>> {
        lock(&self.0).values().flatten().cloned().collect()
    }

    /// Bytes that are still to come to any.
    pub fn missing(&self) -> u64 {
        lock(&self.0).values().flatten().map(|space| space.missing()).sum()
    }

    /// Lets go of all: from now on the kernel answers for what never was in the image.
    pub fn close(&self) {
        lock(&self.0).clear();
    }
}

impl AsFd for Space {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.uffd.as_fd()
    }
}
