//! Loaded into CRIU while it dumps a container whose memory travels by itself.
//!
//! CRIU asks the kernel which pages a process has (`PAGEMAP_SCAN`), and puts each of them into a pipe, although nobody
//! will ever ask for them there: 50 ms to 90 ms of a freeze for each GiB. So large private memory is hidden from it: its
//! question is written down, for the agent, which has asked the same in the meantime, and CRIU hears that there is nothing.
//! What it would not leave for later by itself it gets to see. An older CRIU, which reads `/proc/PID/pagemap`, sees all.

mod mapping;

use std::ffi::{c_int, c_long, c_ulong, c_void};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Names the folder for what was hidden: a file `later-PID` with a line a question, five hexadecimal numbers: from, to, and
/// the categories of pages that are inverted, all wanted, and of which any is wanted.
const FOLDER: &str = "FOG_LATER";

#[cfg(target_arch = "x86_64")]
const SYS_IOCTL: c_long = 16;
#[cfg(any(target_arch = "x86", target_arch = "arm"))]
const SYS_IOCTL: c_long = 54;
#[cfg(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "arm")))]
const SYS_IOCTL: c_long = 29;

/// `_IOWR('f', 16, struct pm_scan_arg)`
const PAGEMAP_SCAN: c_ulong = 0xc060_6610;
const EIO: c_int = 5;

/// `struct pm_scan_arg` of linux/fs.h.
#[repr(C)]
#[derive(Clone, Copy)]
struct Scan {
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

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn __errno_location() -> *mut c_int;
}

/// Programs that CRIU starts have no use for this.
extern "C" fn loaded() {
    // SAFETY: the loader calls it before the program has any thread.
    unsafe { std::env::remove_var("LD_PRELOAD") };
}

#[used]
#[unsafe(link_section = ".init_array")]
static LOADED: extern "C" fn() = loaded;

/// In the C library's place.
///
/// # Safety
/// As the kernel's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ioctl(descriptor: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    if request == PAGEMAP_SCAN && !argument.is_null() {
        // SAFETY: with this request the argument is such a structure, and the caller's.
        let asked = unsafe { &mut *argument.cast::<Scan>() };
        match hide(descriptor, asked) {
            Ok(true) => {
                asked.walk_end = asked.end;
                return 0;
            }
            Ok(false) => {}
            Err(_) => {
                // SAFETY: the calling thread's own.
                unsafe { *__errno_location() = EIO };
                return -1;
            }
        }
    }
    // SAFETY: what the caller would have had done.
    unsafe { syscall(SYS_IOCTL, descriptor, request, argument) as c_int }
}

/// False when CRIU is to see it; an error when it was hidden and could not be written down.
fn hide(descriptor: c_int, asked: &Scan) -> std::io::Result<bool> {
    if asked.size != size_of::<Scan>() as u64
        || asked.flags != 0
        || asked.end.saturating_sub(asked.start) < mapping::LEAST
    {
        return Ok(false);
    }
    let (Some(folder), Some(pid)) = (std::env::var_os(FOLDER), process(descriptor)) else { return Ok(false) };
    if !mapping::of_process(pid).iter().any(|&(from, to)| from <= asked.start && asked.end <= to) {
        return Ok(false);
    }
    let question = [asked.start, asked.end, asked.category_inverted, asked.category_mask, asked.category_anyof_mask];
    let line = question.map(|number| format!("{number:x}")).join(" ") + "\n";
    let file = PathBuf::from(folder).join(format!("later-{pid}"));
    OpenOptions::new().create(true).append(true).open(file)?.write_all(line.as_bytes())?;
    Ok(true)
}

/// Whose `pagemap` it is.
fn process(descriptor: c_int) -> Option<i32> {
    let path = std::fs::read_link(format!("/proc/self/fd/{descriptor}")).ok()?;
    let is_pagemap = path.file_name()? == "pagemap";
    path.parent().and_then(Path::file_name)?.to_str()?.parse().ok().filter(|_| is_pagemap)
}
