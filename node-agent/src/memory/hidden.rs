//! Large memory is hidden from CRIU while it dumps (see `fog-stand-in`), and looked at here at the same time: of 1 GiB
//! CRIU would list every page, in the freeze, for nobody.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use super::kernel::{Categories, pages};

/// `PAGE_IS_FILE`, `PAGE_IS_PRESENT`, `PAGE_IS_SWAPPED`, `PAGE_IS_PFNZERO` of linux/fs.h.
const FILE: u64 = 1 << 2;
const PRESENT: u64 = 1 << 3;
const SWAPPED: u64 = 1 << 4;
const ZERO: u64 = 1 << 5;

/// What CRIU asks for: pages with content of their own.
const OWN: Categories = Categories { inverted: FILE | ZERO, all: FILE | ZERO, any: PRESENT | SWAPPED };

/// From address to address.
type Range = (u64, u64);

/// Where the frozen processes of a container have pages, in all mappings that may be hidden.
#[derive(Debug, Default)]
pub struct Seen(BTreeMap<i32, Vec<(Range, Vec<Range>)>>);

impl Seen {
    /// Looks at frozen processes. What cannot be looked at is missing, and looked at when it was hidden.
    pub fn look(pids: impl IntoIterator<Item = i32>) -> Seen {
        let look = |pid| {
            let Ok(pagemap) = File::open(format!("/proc/{pid}/pagemap")) else { return Vec::new() };
            let mappings = fog_stand_in::mapping::of_process(pid).into_iter();
            mappings.filter_map(|range| Some((range, pages(&pagemap, range, OWN).ok()?))).collect()
        };
        Seen(pids.into_iter().map(|pid| (pid, look(pid))).collect())
    }

    /// The pages in a range that was hidden.
    fn pages(&self, pid: i32, (start, end): Range, of: Categories) -> io::Result<Vec<Range>> {
        let known = self.0.get(&pid).into_iter().flatten().find(|((from, to), _)| *from <= start && end <= *to);
        match known.filter(|_| of == OWN) {
            Some((_, found)) => {
                let cut = found.iter().map(|&(from, to)| (from.max(start), to.min(end)));
                Ok(cut.filter(|(from, to)| from < to).collect())
            }
            None => pages(File::open(format!("/proc/{pid}/pagemap"))?, (start, end), of),
        }
    }
}

/// Makes images of what was hidden: `work` has what CRIU asked, by the processes' ids on the host (`pids`, by those inside
/// the container), and may not name any other.
pub fn keep_hidden(seen: &Seen, work: &Path, images: &Path, pids: &BTreeMap<u32, i32>) -> io::Result<()> {
    for entry in std::fs::read_dir(work)? {
        let entry = entry?;
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix("later-")?.parse::<i32>().ok());
        let Some(pid) = pid else { continue };
        let inside = pids
            .iter()
            .find_map(|(inside, known)| (*known == pid).then_some(inside))
            .ok_or_else(|| io::Error::other(format!("process {pid} was dumped and is not in the container")))?;
        let mut list = Vec::new();
        for line in std::fs::read_to_string(entry.path())?.lines() {
            let damaged = || io::Error::other(format!("{} is damaged", entry.path().display()));
            let (range, of) = question(line).ok_or_else(damaged)?;
            for (from, to) in seen.pages(pid, range, of)? {
                list.extend_from_slice(&from.to_le_bytes());
                list.extend_from_slice(&to.to_le_bytes());
            }
        }
        std::fs::write(images.join(format!("later-{inside}.img")), list)?;
    }
    Ok(())
}

fn question(line: &str) -> Option<(Range, Categories)> {
    let numbers = line.split(' ').map(|word| u64::from_str_radix(word, 16).ok()).collect::<Option<Vec<_>>>()?;
    let &[start, end, inverted, all, any] = numbers.as_slice() else { return None };
    (start <= end).then_some(((start, end), Categories { inverted, all, any }))
}

#[cfg(test)]
mod tests {
    use super::super::kernel::page_size;
    use super::super::pagemap::lazy_pages;
    use super::super::runs::Runs;
    use super::*;

    #[test]
    fn what_was_hidden_is_to_come() {
        let (work, images) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let page = page_size();
        let mut held = vec![0_u8; 64 << 20];
        // Every other of the first pages; the rest was never touched.
        let first = (held.as_ptr() as u64).next_multiple_of(page);
        let offset = usize::try_from(first - held.as_ptr() as u64).expect("small");
        (0..10).for_each(|at| held[offset + at * 2 * page as usize] = 1);
        let asked =
            |inverted: u64| format!("{first:x} {:x} {inverted:x} {:x} {:x}\n", first + 60 * page, OWN.all, OWN.any);
        let mut bytes = Vec::new();
        for (seen, inverted) in [
            (Seen::look([own]), OWN.inverted),
            (Seen::default(), OWN.inverted),
            // Another CRIU may ask otherwise: for zero pages.
            (Seen::look([own]), FILE),
        ] {
            std::fs::write(work.path().join(format!("later-{own}")), asked(inverted)).expect("write");
            assert!(keep_hidden(&seen, work.path(), images.path(), &BTreeMap::from([(8, own + 1)])).is_err());
            keep_hidden(&seen, work.path(), images.path(), &BTreeMap::from([(7, own)])).expect("kept");
            let found = lazy_pages(images.path()).expect("read");
            bytes.push(found.get(&7).map_or(0, Runs::bytes));
        }
        // A huge page holds more than was written.
        assert!(bytes[0] >= 10 * page && bytes[0] == bytes[1], "{bytes:?}");
        assert_eq!(bytes[2], 0);
        std::fs::write(work.path().join(format!("later-{own}")), "1 2 3\n").expect("write");
        assert!(keep_hidden(&Seen::default(), work.path(), images.path(), &BTreeMap::from([(7, own)])).is_err());
    }
}
