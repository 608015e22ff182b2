//! Whether a port can be published.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

/// Tries to take the port for a moment. Only "in use" counts as taken: an address this node does not
/// have, or a protocol that cannot be tried, is left to Docker to refuse.
pub fn port_is_free(address: &str, port: u16, protocol: &str) -> bool {
    let address = address.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let address = SocketAddr::new(address, port);
    let taken = match protocol {
        "tcp" => TcpListener::bind(address).map(drop),
        "udp" => UdpSocket::bind(address).map(drop),
        _ => Ok(()),
    };
    !matches!(taken, Err(error) if error.kind() == ErrorKind::AddrInUse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_takes_its_port() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        assert!(!port_is_free("127.0.0.1", port, "tcp"));
        assert!(port_is_free("127.0.0.1", port, "sctp"));
        drop(listener);
        assert!(port_is_free("127.0.0.1", port, "tcp"));
    }
}
