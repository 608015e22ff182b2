//! Where an address is: the kernel says so itself when a link's hardware address is set, if it is told to notify.

use std::io;
use std::path::PathBuf;

use crate::netlink::{DUMP, Message, Socket, attributes, text};

const GET_LINK: u16 = 18;
const SET_LINK: u16 = 19;
const HARDWARE_ADDRESS: u16 = 1;
const NAME: u16 = 3;

/// `ARPHRD_ETHER`
const ETHERNET: u16 = 1;
/// `IFF_UP`
const UP: u32 = 1;

/// A link that neighbours know by its hardware address.
struct Link {
    index: [u8; 4],
    name: String,
    address: Vec<u8>,
}

/// Announces every address of every link of this thread's namespace.
pub(crate) fn announce() -> io::Result<()> {
    let socket = Socket::new(None)?;
    let links = socket.list(Message::new(GET_LINK, DUMP, &[0; 16]))?;
    for link in links.iter().filter_map(|body| understand(body)) {
        let places = [("ipv4", "arp_notify"), ("ipv6", "ndisc_notify")]
            .map(|(family, file)| PathBuf::from(format!("/proc/sys/net/{family}/conf/{}/{file}", link.name)));
        let before = places.map(|place| {
            let before = std::fs::read(&place).ok();
            // Without IPv6 there is no file, and nothing to announce.
            if before.is_some() {
                std::fs::write(&place, "1").ok();
            }
            (place, before)
        });
        let mut header = [0; 16];
        header[4..8].copy_from_slice(&link.index);
        let same = Message::new(SET_LINK, 0, &header)
            .attribute(NAME, &text(&link.name))
            .attribute(HARDWARE_ADDRESS, &link.address);
        let set = socket.ask(vec![same.acknowledged()]);
        for (place, before) in before {
            if let Some(before) = before {
                std::fs::write(place, before).ok();
            }
        }
        set?;
    }
    Ok(())
}

/// A link's name becomes part of a path: only one that the kernel would give.
fn understand(body: &[u8]) -> Option<Link> {
    let (header, rest) = body.split_first_chunk::<16>()?;
    let kind = u16::from_ne_bytes([header[2], header[3]]);
    let flags = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]);
    if kind != ETHERNET || flags & UP == 0 {
        return None;
    }
    let found = attributes(rest);
    let of = |wanted| found.iter().find(|(kind, _)| *kind == wanted).map(|(_, value)| *value);
    let name = std::str::from_utf8(of(NAME)?).ok()?.trim_end_matches('\0').to_owned();
    let index = [header[4], header[5], header[6], header[7]];
    (!name.contains(['/', '.'])).then_some(Link { index, name, address: of(HARDWARE_ADDRESS)?.to_vec() })
}
