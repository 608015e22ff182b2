//! A TAP device: the kernel hands us the Ethernet frames sent to it, and takes those we write as received.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, Result, ensure};
use rustix::fs::OFlags;
use rustix::ioctl::{Opcode, Setter, ioctl, opcode};

const TUNSETIFF: Opcode = opcode::write::<i32>(b'T', 202);
const IFF_TAP: u16 = 0x0002;
const IFF_NO_PI: u16 = 0x1000;
const IFNAMSIZ: usize = 16;

/// `struct ifreq` as TUNSETIFF reads it.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; IFNAMSIZ],
    flags: u16,
    padding: [u8; 22],
}

/// Creates the TAP device `name` in the current network namespace; it lives as long as the file. Reads and writes
/// do not block and carry one frame each.
pub(crate) fn create(name: &str) -> Result<File> {
    ensure!(!name.is_empty() && name.len() < IFNAMSIZ, "{name:?} is no usable interface name");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open("/dev/net/tun")
        .context("cannot open /dev/net/tun: load the kernel module with `modprobe tun`")?;
    let mut request = InterfaceRequest { name: [0; IFNAMSIZ], flags: IFF_TAP | IFF_NO_PI, padding: [0; 22] };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: TUNSETIFF reads (and writes the name back into) a `struct ifreq`, which `InterfaceRequest` is, in size
    // and layout; the kernel keeps no pointer to it.
    #[allow(unsafe_code)]
    let result = unsafe { ioctl(&file, Setter::<TUNSETIFF, InterfaceRequest>::new(request)) };
    result.with_context(|| format!("cannot create the TAP device {name}"))?;
    Ok(file)
}
