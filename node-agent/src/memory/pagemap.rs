//! What the images say of memory: which pages a dump left out because they are to come later, by CRIU's own lists and
//! by those of what was hidden from it (see `fog-stand-in`).

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::kernel::page_size;
use super::runs::Runs;

/// `PE_LAZY` without `PE_PRESENT`: the page is not in the images.
const LAZY: u64 = 1 << 1;
const PRESENT: u64 = 1 << 2;

/// Addresses, and how many bytes from there on.
type Ranges = Vec<(u64, u64)>;

/// The pages that are to come, by the process's id inside the container.
pub fn lazy_pages(images: &Path) -> io::Result<BTreeMap<u32, Runs>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(images)? {
        let entry = entry?;
        let name = entry.file_name();
        let of =
            |kind: &str| name.to_str().and_then(|name| name.strip_prefix(kind)?.strip_suffix(".img")?.parse().ok());
        let (pid, ranges): (u32, _) = match (of("later-"), of("pagemap-")) {
            (Some(pid), _) => (pid, hidden(&std::fs::read(entry.path())?)),
            (None, Some(pid)) => (pid, parse(&std::fs::read(entry.path())?)),
            (None, None) => continue,
        };
        let ranges = ranges.ok_or_else(|| io::Error::other(format!("{} is damaged", entry.path().display())))?;
        if !ranges.is_empty() {
            let runs: &mut Runs = found.entry(pid).or_default();
            ranges.into_iter().for_each(|(start, len)| runs.add(start, len));
        }
    }
    Ok(found)
}

/// Pairs of addresses, from and to.
fn hidden(list: &[u8]) -> Option<Ranges> {
    let (pairs, rest) = list.as_chunks::<8>();
    let (pairs, odd) = pairs.as_chunks::<2>();
    let range = |[from, to]: &[[u8; 8]; 2]| {
        let (from, to) = (u64::from_le_bytes(*from), u64::from_le_bytes(*to));
        let is_whole = from.is_multiple_of(page_size()) && to.is_multiple_of(page_size());
        Some((from, to.checked_sub(from)?)).filter(|_| is_whole)
    };
    if !rest.is_empty() || !odd.is_empty() {
        return None;
    }
    pairs.iter().map(range).collect()
}

/// Two magic numbers, then messages with their lengths: the head, and an entry a range.
fn parse(image: &[u8]) -> Option<Ranges> {
    let mut rest = image.split_at_checked(8)?.1;
    let (mut ranges, mut is_head) = (Vec::new(), true);
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let (entry, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        rest = behind;
        if std::mem::take(&mut is_head) {
            continue;
        }
        let (start, pages, flags) = numbers(entry)?;
        if flags & LAZY != 0 && flags & PRESENT == 0 {
            let len = pages.checked_mul(page_size())?;
            start.checked_add(len)?;
            ranges.push((start, len));
        }
    }
    rest.is_empty().then_some(ranges)
}

/// Address, pages and flags of a `pagemap_entry`. All its fields are numbers.
fn numbers(mut entry: &[u8]) -> Option<(u64, u64, u64)> {
    let (mut start, mut compatible, mut pages, mut flags) = (None, None, None, 0);
    while !entry.is_empty() {
        let tag = varint(&mut entry)?;
        let value = varint(&mut entry)?;
        match tag {
            0x08 => start = Some(value),
            0x10 => compatible = Some(value),
            0x20 => flags = value,
            0x28 => pages = Some(value),
            0x18 => {}
            _ => return None,
        }
    }
    Some((start?, pages.or(compatible)?, flags))
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(fields: &[(u8, u64)]) -> Vec<u8> {
        let mut body = Vec::new();
        for (tag, mut value) in fields.iter().copied() {
            body.push(tag);
            while value >= 0x80 {
                body.push((value & 0x7f) as u8 | 0x80);
                value >>= 7;
            }
            body.push(value as u8);
        }
        [u32::try_from(body.len()).expect("short").to_le_bytes().to_vec(), body].concat()
    }

    #[test]
    fn only_pages_that_are_not_in_the_images_are_to_come() {
        let image = [
            vec![0; 8],
            message(&[(0x08, 1)]),
            message(&[(0x08, 0x7f00_0000_0000), (0x10, 3), (0x20, LAZY)]),
            message(&[(0x08, 0x10_0000), (0x10, 1), (0x20, LAZY), (0x28, 2)]),
            message(&[(0x08, 0x20_0000), (0x10, 5), (0x20, PRESENT)]),
            message(&[(0x08, 0x30_0000), (0x10, 5), (0x20, PRESENT | LAZY)]),
        ];
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("pagemap-7.img"), image.concat()).expect("write");
        std::fs::write(folder.path().join("pagemap-shmem-3.img"), b"rubbish").expect("write");
        let found = lazy_pages(folder.path()).expect("read");
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), [7]);
        assert_eq!(found[&7].bytes(), 5 * page_size());
        assert_eq!(found[&7].pieces(0x10_0000, 1 << 20).len(), 1);
        std::fs::write(folder.path().join("pagemap-8.img"), b"rubbish-rubbish").expect("write");
        assert!(lazy_pages(folder.path()).is_err());
    }

    #[test]
    fn what_was_hidden_is_to_come_as_well() {
        let images = tempfile::tempdir().expect("a folder");
        let page = page_size();
        let list = |addresses: &[u64]| addresses.iter().flat_map(|at| at.to_le_bytes()).collect::<Vec<u8>>();
        let criu = [vec![0; 8], message(&[(0x08, 1)]), message(&[(0x08, page), (0x10, 1), (0x20, LAZY)])];
        std::fs::write(images.path().join("pagemap-7.img"), criu.concat()).expect("write");
        let hidden = list(&[16 * page, 20 * page, 32 * page, 33 * page]);
        std::fs::write(images.path().join("later-7.img"), hidden).expect("write");
        let found = lazy_pages(images.path()).expect("read");
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), [7]);
        assert_eq!(found[&7].bytes(), 6 * page);
        for damaged in [list(&[page]), list(&[2 * page, page]), list(&[1, page]), vec![0; 17]] {
            std::fs::write(images.path().join("later-7.img"), damaged).expect("write");
            assert!(lazy_pages(images.path()).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_image_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            parse(&bytes);
            hidden(&bytes);
        }
    }
}
