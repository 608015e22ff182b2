//! The TCP connections of a network namespace.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A connection that both ends believe in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// This end.
    pub local: SocketAddr,
    /// The other end.
    pub peer: SocketAddr,
}

impl Connection {
    /// Both ends are in the same container: it moves with it, whatever becomes of the address.
    pub fn is_internal(&self) -> bool {
        self.local.ip() == self.peer.ip() || self.peer.ip().to_canonical().is_loopback()
    }
}

/// The connections in the network namespace of a process.
pub fn connections(pid: u32) -> io::Result<Vec<Connection>> {
    let mut found = parse(&std::fs::read_to_string(format!("/proc/{pid}/net/tcp"))?);
    // A kernel without IPv6 has no such file.
    if let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/net/tcp6")) {
        found.extend(parse(&text));
    }
    Ok(found)
}

fn parse(table: &str) -> Vec<Connection> {
    let line = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, peer) = (address(fields.next()?)?, address(fields.next()?)?);
        let state = u8::from_str_radix(fields.next()?, 16).ok()?;
        // ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING; the others have no process or no peer yet.
        matches!(state, 1 | 4 | 5 | 8 | 9 | 11).then_some(Connection { local, peer })
    };
    table.lines().skip(1).filter_map(line).collect()
}

/// `0100007F:1F90`: the address in words of the machine's byte order.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Option<Vec<u32>> =
        (0..address.len() / 8).map(|at| u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok()).collect();
    let bytes: Vec<u8> = words?.into_iter().flat_map(u32::to_ne_bytes).collect();
    let ip = match bytes.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn only_connections_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
            0: 00000000:18EB 00000000:0000 0A 00000000:00000000 00:00000000\n\
            1: 0500A8C0:18EB 0900A8C0:D431 01 00000000:00000000 00:00000000\n\
            2: 0100007F:18EB 0100007F:D431 08 00000000:00000000 00:00000000\n\
            3: 0500A8C0:18EB 0900A8C0:D432 06 00000000:00000000 00:00000000\n\
            4: 0000000000000000FFFF00000500A8C0:0050 0000000000000000FFFF00000900A8C0:1000 01 0\n";
        let found = parse(table);
        let shown: Vec<String> = found.iter().map(|c| format!("{} {}", c.local, c.peer)).collect();
        assert_eq!(
            shown,
            [
                "192.168.0.5:6379 192.168.0.9:54321",
                "127.0.0.1:6379 127.0.0.1:54321",
                "[::ffff:192.168.0.5]:80 [::ffff:192.168.0.9]:4096"
            ]
        );
        assert_eq!(found.iter().map(Connection::is_internal).collect::<Vec<_>>(), [false, true, false]);
    }
}
