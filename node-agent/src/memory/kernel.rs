//! The kernel's calls for other processes' memory: reading it, and filling it through userfaultfd.
//!
//! All of the crate's unsafe code is here. Each call hands the kernel a buffer or a structure that lives until the call
//! returns; the kernel keeps no pointer.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use rustix::ioctl::{Opcode, Setter, Updater, ioctl, opcode};

/// The size of a page; CRIU and userfaultfd count in these.
pub fn page_size() -> u64 {
    rustix::param::page_size() as u64
}

/// Reads `into.len()` bytes of a process's memory from `address`; how many came before the first page that cannot be
/// read this way.
#[allow(unsafe_code)]
pub fn read_memory(pid: i32, address: u64, into: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: into.len() };
    // SAFETY: `local` describes a slice that is ours to write; `remote` is only interpreted in the other process.
    let read = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

#[repr(C)]
struct Range {
    start: u64,
    len: u64,
}

#[repr(C)]
struct CopyRequest {
    to: u64,
    from: u64,
    len: u64,
    mode: u64,
    copied: i64,
}

#[repr(C)]
struct ZeroRequest {
    start: u64,
    len: u64,
    mode: u64,
    zeroed: i64,
}

const UNREGISTER: Opcode = opcode::read::<Range>(0xAA, 0x01);
const WAKE: Opcode = opcode::read::<Range>(0xAA, 0x02);
const COPY: Opcode = opcode::read_write::<CopyRequest>(0xAA, 0x03);
const ZERO: Opcode = opcode::read_write::<ZeroRequest>(0xAA, 0x04);

/// `struct pm_scan_arg` of linux/fs.h.
#[repr(C)]
struct ScanRequest {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region` of linux/fs.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

const SCAN: Opcode = opcode::read_write::<ScanRequest>(b'f', 16);

/// Which pages a question is about, by the kernel's `PAGE_IS_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Categories {
    /// Those whose absence is meant.
    pub inverted: u64,
    /// All of these.
    pub all: u64,
    /// Any of these.
    pub any: u64,
}

/// Where a process has such pages, from address to address in a range, in order; `pagemap` is its `/proc/PID/pagemap`.
/// Linux 6.7.
#[allow(unsafe_code)]
pub fn pages(pagemap: impl AsFd, (start, end): (u64, u64), of: Categories) -> io::Result<Vec<(u64, u64)>> {
    let mut regions = vec![Region::default(); 4096];
    let (mut found, mut at) = (Vec::new(), start);
    while at < end {
        let mut request = ScanRequest {
            size: size_of::<ScanRequest>() as u64,
            flags: 0,
            start: at,
            end,
            walk_end: 0,
            vec: regions.as_mut_ptr() as u64,
            vec_len: regions.len() as u64,
            max_pages: 0,
            category_inverted: of.inverted,
            category_mask: of.all,
            category_anyof_mask: of.any,
            return_mask: of.any,
        };
        // SAFETY: PAGEMAP_SCAN reads and writes a `struct pm_scan_arg`, which `ScanRequest` is, and writes to `regions`
        // as many as it says.
        let count = unsafe { libc::ioctl(pagemap.as_fd().as_raw_fd(), SCAN.into(), &raw mut request) };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        found.extend(regions.iter().take(count).map(|region| (region.start, region.end)));
        if request.walk_end <= at {
            return Err(io::Error::other("the kernel did not look at any page"));
        }
        at = request.walk_end;
    }
    Ok(found)
}

/// What became of pages that were put into a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// So many bytes are in place now; all of them, or those before the first page that was refused.
    Bytes(u64),
    /// The first page is there already.
    Present,
    /// The address is not one that may be filled (any more).
    Elsewhere,
    /// The process changes its mappings at this moment; read its events, then try again.
    Changing,
    /// The process is gone.
    Gone,
}

fn filled(result: rustix::io::Result<()>, len: u64, done: i64) -> io::Result<Filled> {
    use rustix::io::Errno;
    match (result, u64::try_from(done)) {
        (Ok(()), _) => Ok(Filled::Bytes(len)),
        (Err(_), Ok(done)) if done > 0 => Ok(Filled::Bytes(done)),
        (Err(Errno::EXIST), _) => Ok(Filled::Present),
        (Err(Errno::NOENT | Errno::INVAL), _) => Ok(Filled::Elsewhere),
        (Err(Errno::AGAIN), _) => Ok(Filled::Changing),
        (Err(Errno::SRCH | Errno::NOSPC), _) => Ok(Filled::Gone),
        (Err(error), _) => Err(error.into()),
    }
}

/// Puts content at a process's address and wakes whoever waits for it.
#[allow(unsafe_code)]
pub fn fill(uffd: impl AsFd, address: u64, content: &[u8]) -> io::Result<Filled> {
    let len = content.len() as u64;
    let mut request = CopyRequest { to: address, from: content.as_ptr() as u64, len, mode: 0, copied: 0 };
    // SAFETY: UFFDIO_COPY reads and writes a `struct uffdio_copy`, which `CopyRequest` is, and reads `content`.
    let result = unsafe { ioctl(uffd, Updater::<COPY, CopyRequest>::new(&mut request)) };
    filled(result, len, request.copied)
}

/// Puts zero pages at a process's address and wakes whoever waits for them.
#[allow(unsafe_code)]
pub fn fill_zero(uffd: impl AsFd, address: u64, len: u64) -> io::Result<Filled> {
    let mut request = ZeroRequest { start: address, len, mode: 0, zeroed: 0 };
    // SAFETY: UFFDIO_ZEROPAGE reads and writes a `struct uffdio_zeropage`, which `ZeroRequest` is.
    let result = unsafe { ioctl(uffd, Updater::<ZERO, ZeroRequest>::new(&mut request)) };
    filled(result, len, request.zeroed)
}

/// Wakes whoever waits for a page in the range.
#[allow(unsafe_code)]
pub fn wake(uffd: impl AsFd, start: u64, len: u64) -> io::Result<()> {
    // SAFETY: UFFDIO_WAKE reads a `struct uffdio_range`, which `Range` is.
    Ok(unsafe { ioctl(uffd, Setter::<WAKE, Range>::new(Range { start, len })) }?)
}

/// From now on the kernel itself answers for the range. A process that is gone is no error.
#[allow(unsafe_code)]
pub fn unregister(uffd: impl AsFd, start: u64, len: u64) -> io::Result<()> {
    // SAFETY: UFFDIO_UNREGISTER reads a `struct uffdio_range`, which `Range` is.
    match unsafe { ioctl(uffd, Setter::<UNREGISTER, Range>::new(Range { start, len })) } {
        Err(error) if !matches!(error, rustix::io::Errno::NOMEM | rustix::io::Errno::INVAL) => Err(error.into()),
        _ => Ok(()),
    }
}

/// What a process does with its memory.
#[derive(Debug)]
pub enum MemoryEvent {
    /// It needs the page at this address.
    Fault(u64),
    /// It has a child now, whose memory is filled through this.
    Fork(OwnedFd),
    /// It moved a mapping.
    Remap {
        /// From here.
        from: u64,
        /// To here.
        to: u64,
        /// So many bytes.
        len: u64,
    },
    /// It gave the content of this range up; the mapping stays.
    Remove {
        /// Its beginning.
        start: u64,
        /// Behind its end.
        end: u64,
    },
    /// It took a mapping away.
    Unmap {
        /// Its beginning.
        start: u64,
        /// Behind its end.
        end: u64,
    },
}

/// The next event, if there is one. What it tells of goes on in that process as soon as this returns.
#[allow(unsafe_code)]
pub fn next_event(uffd: impl AsFd) -> io::Result<Option<MemoryEvent>> {
    let mut message = [0_u8; 32];
    match rustix::io::read(uffd, &mut message) {
        Ok(32) => {}
        Ok(_) | Err(rustix::io::Errno::AGAIN) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&message[at..at + 8]);
        u64::from_ne_bytes(word)
    };
    Ok(Some(match message[0] {
        0x12 => MemoryEvent::Fault(word(16) & !(page_size() - 1)),
        0x13 => {
            let descriptor = (word(8) & u64::from(u32::MAX)) as i32;
            // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
            MemoryEvent::Fork(unsafe { OwnedFd::from_raw_fd(descriptor) })
        }
        0x14 => MemoryEvent::Remap { from: word(8), to: word(16), len: word(24) },
        0x15 => MemoryEvent::Remove { start: word(8), end: word(16) },
        0x16 => MemoryEvent::Unmap { start: word(8), end: word(16) },
        other => return Err(io::Error::other(format!("userfaultfd told of an unknown event {other:#x}"))),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_up_to_where_it_ends() {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let content = vec![7_u8; 100_000];
        let mut into = vec![0; 100_000];
        assert_eq!(read_memory(own, content.as_ptr() as u64, &mut into).expect("own memory"), 100_000);
        assert_eq!(into, content);
        assert!(read_memory(own, 8, &mut into).is_err(), "nothing is at address 8");
    }
}
