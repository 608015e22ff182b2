//! Source: reads a process's memory and says what of it the destination does not have.
//!
//! While the container runs, what was sent is known by a 64-bit hash of each page's content (XXH3, seeded anew for every
//! migration): that needs nothing from the kernel and works on every one. Reading and hashing go at several GB/s.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::kernel::{page_size, read_memory};
use crate::transfer::pages::{LARGEST, PageMessage};

/// Pages whose hashes lie together: 2 MiB of memory.
const REGION: u64 = 512;

/// Bits of an entry of `/proc/PID/pagemap`.
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
/// No other process has this page.
const EXCLUSIVE: u64 = 1 << 56;
/// A page of a file, or one that is shared.
const OF_A_FILE: u64 = 1 << 61;

/// Says a message; `Err` ends the scan.
pub type Say<'a, E> = &'a mut dyn FnMut(PageMessage<'_>) -> Result<(), E>;

/// The hashes of what the destination has.
#[derive(Debug, Default)]
pub struct Known {
    seed: u64,
    regions: HashMap<(u32, u64), Box<[u64]>>,
}

/// No page has this hash: it stands for a page that was never sent.
const UNKNOWN: u64 = 0;

impl Known {
    /// Nothing is known. `seed` must not be predictable for the container.
    pub fn new(seed: u64) -> Known {
        Known { seed, regions: HashMap::new() }
    }

    /// The destination may have none of it.
    pub fn forget(&mut self) {
        self.regions.clear();
    }

    fn hash(&self, page: &[u8]) -> u64 {
        xxh3_64_with_seed(page, self.seed).max(UNKNOWN + 1)
    }

    fn of(&self, pid: u32, address: u64) -> u64 {
        let page = address / page_size();
        let region = self.regions.get(&(pid, page / REGION));
        region.map_or(UNKNOWN, |region| region[(page % REGION) as usize])
    }

    fn set(&mut self, pid: u32, address: u64, hash: u64) {
        let page = address / page_size();
        let region = self.regions.entry((pid, page / REGION));
        region.or_insert_with(|| vec![UNKNOWN; REGION as usize].into_boxed_slice())[(page % REGION) as usize] = hash;
    }
}

/// The ranges of a process's memory that could be dumped without content: private, of no file, and touched.
pub fn resident(pid: i32) -> io::Result<Vec<(u64, u64)>> {
    let mut found: Vec<(u64, u64)> = Vec::new();
    each_touched(pid, |at, _| match found.last_mut() {
        Some((last, len)) if *last + *len == at => *len += page_size(),
        _ => found.push((at, page_size())),
    })?;
    Ok(found)
}

/// Bytes of such memory that another process has too, since one was forked.
pub fn shared_bytes(pid: i32) -> io::Result<u64> {
    let mut pages = 0;
    each_touched(pid, |_, entry| pages += u64::from(entry & (EXCLUSIVE | PRESENT) == PRESENT))?;
    Ok(pages * page_size())
}

/// Calls with the address and the `pagemap` entry of each such page.
fn each_touched(pid: i32, mut each: impl FnMut(u64, u64)) -> io::Result<()> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let pagemap = File::open(format!("/proc/{pid}/pagemap"))?;
    let page = page_size();
    let mut entries = vec![0; 64 << 10];
    for (start, end) in maps.lines().filter_map(anonymous) {
        let mut at = start;
        while at < end {
            let count = ((end - at) / page).min(entries.len() as u64 / 8);
            let read = &mut entries[..count as usize * 8];
            if pagemap.read_exact_at(read, at / page * 8).is_err() {
                break; // unmapped meanwhile
            }
            for entry in read.chunks_exact(8) {
                let entry = entry.try_into().map_or(0, u64::from_ne_bytes);
                if entry & (PRESENT | SWAPPED) != 0 && entry & OF_A_FILE == 0 {
                    each(at, entry);
                }
                at += page;
            }
        }
    }
    Ok(())
}

/// `start-end rw-p offset device inode [name]` of a private mapping of no file.
fn anonymous(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split_ascii_whitespace();
    let (range, rights) = (words.next()?, words.next()?);
    let inode = words.nth(2)?;
    let kernels = words.next().is_some_and(|name| name.starts_with("[v") || name == "[uprobes]");
    let (start, end) = range.split_once('-')?;
    let wanted = rights.ends_with('p') && inode == "0" && !kernels;
    wanted.then_some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
}

/// Reads whole pages; false where one of them cannot be read at all. What process_vm_readv refuses (a mapping without
/// the right to read), `/proc/PID/mem` may give.
fn read(pid: i32, address: u64, into: &mut [u8]) -> bool {
    let mut at = 0;
    while at < into.len() {
        match read_memory(pid, address + at as u64, &mut into[at..]) {
            Ok(count) if count > 0 => at += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => {
                let end = (at + page_size() as usize).min(into.len());
                let opened = File::open(format!("/proc/{pid}/mem"));
                let read = opened.and_then(|mem| mem.read_exact_at(&mut into[at..end], address + at as u64));
                if read.is_err() {
                    return false;
                }
                at = end;
            }
        }
    }
    true
}

fn is_zero(page: &[u8]) -> bool {
    page.chunks_exact(64).all(|line| line.iter().fold(0, |all, byte| all | byte) == 0)
}

/// What is to be said of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Content,
    Zero,
    Same,
    /// Nothing: the destination has it, or may believe that it is zero.
    Nothing,
}

/// Says what changed in a running process since the last round. What goes away meanwhile is passed over.
pub fn round<E>(known: &mut Known, vpid: u32, pid: i32, buffer: &mut Vec<u8>, say: Say<'_, E>) -> Result<(), E> {
    let Ok(ranges) = resident(pid) else { return Ok(()) };
    buffer.resize(LARGEST, 0);
    for (start, len) in ranges {
        each_chunk(start, len, |address, len| {
            let content = &mut buffer[..len];
            if !read(pid, address, content) {
                return Ok(());
            }
            let mut words = Vec::with_capacity(len / page_size() as usize);
            for (index, page) in content.chunks_exact(page_size() as usize).enumerate() {
                let address = address + index as u64 * page_size();
                let (before, now) = (known.of(vpid, address), known.hash(page));
                let word = match (before == now, is_zero(page)) {
                    (true, _) => Word::Nothing,
                    // What was never kept there is zero anyway.
                    (false, true) if before == UNKNOWN => Word::Nothing,
                    (false, true) => Word::Zero,
                    (false, false) => Word::Content,
                };
                if before != now {
                    known.set(vpid, address, now);
                }
                words.push(word);
            }
            tell(vpid, address, content, &words, say)
        })?;
    }
    Ok(())
}

/// Says what a range of a frozen process is. `unreadable` makes the error for memory that cannot be read.
pub fn frozen<E>(
    known: &Known,
    (vpid, pid): (u32, i32),
    (start, len): (u64, u64),
    buffer: &mut Vec<u8>,
    unreadable: impl Fn(u64) -> E,
    say: Say<'_, E>,
) -> Result<(), E> {
    buffer.resize(LARGEST, 0);
    each_chunk(start, len, |address, len| {
        let content = &mut buffer[..len];
        if !read(pid, address, content) {
            return Err(unreadable(address));
        }
        let words: Vec<Word> = content
            .chunks_exact(page_size() as usize)
            .enumerate()
            .map(|(index, page)| {
                let before = known.of(vpid, address + index as u64 * page_size());
                if before != UNKNOWN && before == known.hash(page) {
                    Word::Same
                } else if is_zero(page) {
                    Word::Zero
                } else {
                    Word::Content
                }
            })
            .collect();
        tell(vpid, address, content, &words, say)
    })
}

fn each_chunk<E>(start: u64, len: u64, mut each: impl FnMut(u64, usize) -> Result<(), E>) -> Result<(), E> {
    let (mut at, end) = (start, start + len);
    while at < end {
        let step = (end - at).min(LARGEST as u64);
        each(at, usize::try_from(step).unwrap_or(LARGEST))?;
        at += step;
    }
    Ok(())
}

/// One message for neighbours of which the same is to be said.
fn tell<E>(pid: u32, address: u64, content: &[u8], words: &[Word], say: Say<'_, E>) -> Result<(), E> {
    let page = page_size() as usize;
    let mut at = 0;
    for run in words.chunk_by(|one, next| one == next) {
        let (begin, end) = (at * page, (at + run.len()) * page);
        let (address, len) = (address + begin as u64, (end - begin) as u64);
        match run[0] {
            Word::Content => say(PageMessage::Pages { pid, address, content: &content[begin..end] })?,
            Word::Zero => say(PageMessage::Zeros { pid, address, len })?,
            Word::Same => say(PageMessage::Same { pid, address, len })?,
            Word::Nothing => {}
        }
        at += run.len();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn mappings_that_can_be_left_out() {
        assert_eq!(anonymous("1000-3000 rw-p 00000000 00:00 0 "), Some((0x1000, 0x3000)));
        assert_eq!(anonymous("1000-3000 rw-p 00000000 00:00 0    [heap]"), Some((0x1000, 0x3000)));
        assert_eq!(anonymous("1000-3000 r--p 00000000 00:00 0    [vvar]"), None);
        assert_eq!(anonymous("1000-3000 r-xp 00000000 00:00 0    [vdso]"), None);
        assert_eq!(anonymous("1000-3000 rw-s 00000000 00:01 1024  /dev/zero (deleted)"), None);
        assert_eq!(anonymous("1000-3000 r-xp 00000000 08:01 77  /bin/x"), None);
    }

    #[test]
    fn what_a_fork_shares_is_seen() {
        use std::process::{Command, Stdio};
        // The shell's second line is said by a child that was forked and has started no other program.
        let shared = |script: &str| {
            let shell = Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
            let mut shell = shell.expect("a shell");
            let out = shell.stdout.take().expect("its output");
            std::io::BufRead::read_line(&mut io::BufReader::new(out), &mut String::new()).expect("a line");
            let shared = shared_bytes(i32::try_from(shell.id()).expect("a process id")).expect("its memory");
            drop(shell.stdin.take());
            shell.wait().expect("its end");
            shared
        };
        let (alone, forked) = (shared("echo; read x"), shared("(echo; read x); true"));
        assert!(forked > alone, "{forked} bytes with a child, {alone} without");
    }

    /// This process's own memory, as a destination would keep it.
    #[test]
    fn rounds_and_the_frozen_scan_together_give_the_content() {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let page = page_size() as usize;
        let mut memory = vec![0_u8; 40 * page];
        let begin = memory.as_ptr() as usize;
        let first = begin.next_multiple_of(page);
        let aligned = first - begin;
        let place = first as u64;
        for index in (0..32).step_by(2) {
            memory[aligned + index * page] = index as u8 + 1;
        }
        let mut kept: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let (mut known, mut buffer) = (Known::new(7), Vec::new());
        let keep = |kept: &mut BTreeMap<u64, Vec<u8>>, message: PageMessage<'_>| match message {
            PageMessage::Pages { address, content, .. } => {
                for (index, one) in content.chunks(page).enumerate() {
                    kept.insert(address + (index * page) as u64, one.to_vec());
                }
                content.len()
            }
            PageMessage::Zeros { address, len, .. } => {
                for at in (address..address + len).step_by(page) {
                    kept.insert(at, vec![0; page]);
                }
                0
            }
            _ => 0,
        };
        // A running process: the test's own memory changes elsewhere, so only the range counts.
        round::<Infallible>(&mut known, 1, own, &mut buffer, &mut |message| {
            keep(&mut kept, message);
            Ok(())
        })
        .expect("infallible");
        memory[aligned + 4 * page + 9] = 99;
        memory[aligned + 6 * page] = 0;
        let mut sent = 0;
        let unreadable = |_| unreachable!("it is our own");
        let range = (place, 32 * page as u64);
        frozen::<Infallible>(&known, (1, own), range, &mut buffer, unreadable, &mut |message| {
            sent += keep(&mut kept, message);
            Ok(())
        })
        .expect("infallible");
        assert_eq!(sent, page, "one page changed");
        for index in 0..32 {
            let at = aligned + index * page;
            let wanted = &memory[at..at + page];
            let zero = vec![0; page];
            let found = kept.get(&(place + (index * page) as u64)).unwrap_or(&zero);
            assert!(found == wanted, "page {index}");
        }
    }
}
