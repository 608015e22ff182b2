//! A namespace is closed by two nftables tables of our own whose chains have no rule and drop by default: one for
//! IPv4 and IPv6, one for ARP, so that no neighbour hears of the address while two nodes have it.

use std::io;

use rustix::io::Errno;
use rustix::net::netlink::NETFILTER;

use crate::netlink::{CREATE, Message, Socket, text};

/// The tables' name. Nothing of Docker's or CRIU's is called so.
const NAME: &str = "fogshift-moving";

/// `NFPROTO_INET` and `NFPROTO_ARP`, each with its hooks for what comes in and what goes out.
const FAMILIES: [(u8, [u32; 2]); 2] = [(1, [1, 3]), (3, [0, 1])];

const SUBSYSTEM: u16 = 10 << 8; // NFNL_SUBSYS_NFTABLES
const NEW_TABLE: u16 = SUBSYSTEM;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

const TABLE_NAME: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;

/// Before every other table.
const FIRST: i32 = -1000;
const DROP: u32 = 0;

/// Closes the namespace of this thread.
pub(crate) fn close() -> io::Result<()> {
    let mut messages = Vec::new();
    for (family, hooks) in FAMILIES {
        let name = text(NAME);
        messages.push(Message::new(NEW_TABLE, CREATE, &header(family, 0)).attribute(TABLE_NAME, &name).acknowledged());
        for (chain, hook) in ["in", "out"].into_iter().zip(hooks) {
            let place = [(HOOK_NUMBER, &hook.to_be_bytes()[..]), (HOOK_PRIORITY, &FIRST.to_be_bytes()[..])];
            let chain = Message::new(NEW_CHAIN, CREATE, &header(family, 0))
                .attribute(CHAIN_TABLE, &name)
                .attribute(CHAIN_NAME, &text(chain))
                .nested(CHAIN_HOOK, &place)
                .attribute(CHAIN_TYPE, &text("filter"))
                .attribute(CHAIN_POLICY, &DROP.to_be_bytes());
            messages.push(chain.acknowledged());
        }
    }
    in_one(messages)
}

/// Opens the namespace of this thread.
pub(crate) fn open() -> io::Result<()> {
    for (family, _) in FAMILIES {
        let delete = Message::new(DELETE_TABLE, 0, &header(family, 0)).attribute(TABLE_NAME, &text(NAME));
        match in_one(vec![delete.acknowledged()]) {
            Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {}
            other => other?,
        }
    }
    Ok(())
}

/// All or nothing.
fn in_one(messages: Vec<Message>) -> io::Result<()> {
    let frame = |kind| Message::new(kind, 0, &header(0, SUBSYSTEM >> 8));
    let batch = [vec![frame(BATCH_BEGIN)], messages, vec![frame(BATCH_END)]];
    Socket::new(Some(NETFILTER))?.ask(batch.into_iter().flatten().collect())
}

/// `struct nfgenmsg`
fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}
