//! The network namespace of a container, handled from outside while its tasks are frozen.
//!
//! A frozen process still has a live TCP stack: it acknowledges what nobody will ever read. So the namespace is
//! [`close`]d on the source before its sockets are dumped, and on the destination before its interfaces appear there.
//! What comes meanwhile is [caught](Catch) and [said again](replay) where the container runs next, so that no
//! client has to wait for its own back-off. [`announce`] tells the neighbours where the address is now.
//!
//! Everything speaks netlink itself: no program is started, and it takes about a millisecond.

mod announce;
mod catch;
mod lock;
mod netlink;
mod sockets;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

pub use catch::Catch;
pub use sockets::{Connection, connections};

/// Does something in the network namespace of a process, in a thread of its own. Blocking.
pub fn inside<T: Send + 'static>(pid: u32, work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
    let thread = std::thread::Builder::new().name("netns".to_owned()).spawn(move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        work()
    })?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread in the network namespace ended")))
}

/// Lets nothing in and nothing out any more, ARP included; what was closed already stays so. Blocking.
pub fn close(pid: u32) -> io::Result<()> {
    inside(pid, lock::close)
}

/// Like [`close`], and catches what would have come in.
pub fn close_and_catch(pid: u32) -> io::Result<Catch> {
    inside(pid, || {
        let catch = Catch::begin()?;
        lock::close()?;
        Ok(catch)
    })
}

/// Undoes [`close`]; what is open stays so. Blocking.
pub fn open(pid: u32) -> io::Result<()> {
    inside(pid, lock::open)
}

/// Tells the neighbours on every link that its addresses are here: gratuitous ARP and unsolicited NA. Blocking.
pub fn announce(pid: u32) -> io::Result<()> {
    inside(pid, announce::announce)
}

/// Delivers packets that were caught elsewhere, as if they came now. Returns how many. Blocking.
pub fn replay(pid: u32, packets: Vec<u8>) -> io::Result<usize> {
    inside(pid, move || catch::replay(&packets))
}
