//! What arrives for a container that cannot answer is kept, and delivered where it runs next.
//!
//! A client whose request falls into the freeze would repeat it only when its retransmission timer expires: 200 ms
//! after it was sent, then 400, then 800. Delivered again, the request is answered as soon as the container runs. TCP's
//! sequence numbers make it harmless if the client repeats it as well.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::num::NonZeroU32;

use rustix::fd::OwnedFd;
use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

/// Bytes that are kept; what does not fit is repeated by its sender, later.
const LARGEST: usize = 4 << 20;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
/// `IPPROTO_RAW`: what is sent brings its own header.
const RAW: u32 = 255;

/// Holds the packets that come into a network namespace. They wait in the kernel until they are [taken](Catch::take).
#[derive(Debug)]
pub struct Catch([OwnedFd; 2]);

impl Catch {
    /// From now on, in the namespace of this thread. What this host itself sends does not count: of a protocol's own
    /// tap the kernel only feeds what comes in.
    pub(crate) fn begin() -> io::Result<Catch> {
        let tap = |protocol: u16| {
            let protocol = NonZeroU32::new(protocol.to_be().into()).map(Protocol::from_raw);
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, protocol)?;
            set_socket_recv_buffer_size(&socket, LARGEST)?;
            Ok::<_, io::Error>(socket)
        };
        Ok(Catch([tap(IPV4)?, tap(IPV6)?]))
    }

    /// All TCP segments so far: each with its length in front, in network byte order.
    pub fn take(&self) -> io::Result<Vec<u8>> {
        let mut packets = Vec::new();
        let mut buffer = vec![0; 1 << 17];
        for socket in &self.0 {
            loop {
                let length = match recv(socket, &mut buffer[..], RecvFlags::empty()) {
                    Ok((length, _)) => length,
                    Err(rustix::io::Errno::AGAIN) => break,
                    // The interface went down in between.
                    Err(rustix::io::Errno::NETDOWN) => continue,
                    Err(error) => return Err(error.into()),
                };
                let packet = Packet::parse(&buffer[..length]);
                if let Some(packet) = packet.filter(|packet| packets.len() + packet.bytes().len() + 4 <= LARGEST) {
                    packets.extend(u32::try_from(packet.bytes().len()).unwrap_or(0).to_be_bytes());
                    packets.extend(packet.bytes());
                }
            }
        }
        Ok(packets)
    }
}

/// A whole TCP segment with its IP header.
enum Packet<'a> {
    V4 { bytes: &'a [u8], header: usize },
    V6 { bytes: &'a [u8] },
}

impl<'a> Packet<'a> {
    /// Whole ones only: no fragments, no extension headers, nothing cut off.
    fn parse(bytes: &'a [u8]) -> Option<Packet<'a>> {
        match bytes.first()? >> 4 {
            4 => {
                let header = usize::from(bytes[0] & 0xf) * 4;
                let total = usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]));
                let fragment = u16::from_be_bytes([*bytes.get(6)?, *bytes.get(7)?]) & 0x3fff;
                let whole = header >= 20 && total >= header + 20 && fragment == 0 && *bytes.get(9)? == TCP;
                // A frame may be padded behind the packet.
                whole.then_some(Packet::V4 { bytes: bytes.get(..total)?, header })
            }
            6 => {
                let payload = usize::from(u16::from_be_bytes([*bytes.get(4)?, *bytes.get(5)?]));
                let whole = *bytes.get(6)? == TCP && payload >= 20;
                Some(Packet::V6 { bytes: bytes.get(..40 + payload)? }).filter(|_| whole)
            }
            _ => None,
        }
    }

    fn bytes(&self) -> &'a [u8] {
        match self {
            Packet::V4 { bytes, .. } | Packet::V6 { bytes } => bytes,
        }
    }

    /// With its checksum computed: a neighbour on the same machine leaves that to a network card that is not there.
    fn summed(&self) -> Vec<u8> {
        let (bytes, header, addresses) = match self {
            Packet::V4 { bytes, header } => (bytes, *header, &bytes[12..20]),
            Packet::V6 { bytes } => (bytes, 40, &bytes[8..40]),
        };
        let mut packet = bytes.to_vec();
        packet[header + 16..header + 18].fill(0);
        let length = u32::try_from(packet.len() - header).unwrap_or(0).to_be_bytes();
        let parts = [addresses, &length, &[0, 0, 0, TCP], &packet[header..]];
        let sum = checksum(parts.into_iter().flatten().copied());
        packet[header + 16..header + 18].copy_from_slice(&sum.to_be_bytes());
        packet
    }
}

/// RFC 1071; every part but the last has an even length.
fn checksum(bytes: impl Iterator<Item = u8>) -> u16 {
    let mut sum: u64 = 0;
    for (at, byte) in bytes.enumerate() {
        sum += u64::from(byte) << if at % 2 == 0 { 8 } else { 0 };
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Delivers packets in the namespace of this thread. Those to an address that is not there go nowhere.
pub(crate) fn replay(mut packets: &[u8]) -> io::Result<usize> {
    let raw = |family| {
        let protocol = NonZeroU32::new(RAW).map(Protocol::from_raw);
        socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, protocol)
    };
    let (four, mut six) = (raw(AddressFamily::INET)?, None);
    let mut delivered = 0;
    while let Some((length, rest)) = packets.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let Some((bytes, rest)) = rest.split_at_checked(length) else {
            return Err(io::Error::other("the caught packets are damaged"));
        };
        packets = rest;
        let Some(packet) = Packet::parse(bytes) else { continue };
        let summed = packet.summed();
        let sent = match packet {
            Packet::V4 { bytes, .. } => {
                let to = Ipv4Addr::new(bytes[16], bytes[17], bytes[18], bytes[19]);
                sendto(&four, &summed, SendFlags::empty(), &SocketAddrV4::new(to, 0))
            }
            Packet::V6 { bytes } => {
                let to = <[u8; 16]>::try_from(&bytes[24..40]).map(Ipv6Addr::from).map_err(io::Error::other)?;
                let socket = match &six {
                    Some(socket) => socket,
                    None => six.insert(raw(AddressFamily::INET6)?),
                };
                sendto(socket, &summed, SendFlags::empty(), &SocketAddrV6::new(to, 0, 0, 0))
            }
        };
        delivered += usize::from(sent.is_ok());
    }
    Ok(delivered)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A SYN from 10.0.0.1:1 to 10.0.0.2:2 with a wrong checksum.
    fn segment() -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        bytes.extend([0, 1, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0xde, 0xad, 0, 0]);
        bytes
    }

    #[test]
    fn the_checksum_is_right_afterwards() {
        let bytes = segment();
        let packet = Packet::parse(&bytes).expect("a segment").summed();
        let pseudo = [&packet[12..20], &[0, 6, 0, 20], &packet[20..]].concat();
        assert_eq!(checksum(pseudo.into_iter()), 0, "the sum over a right checksum is 0");
        assert_eq!(packet[..36], bytes[..36]);
    }

    #[test]
    fn padding_is_cut_and_others_are_passed_over() {
        let mut bytes = segment();
        bytes.extend([0; 6]);
        assert_eq!(Packet::parse(&bytes).expect("a segment").bytes().len(), 40);
        bytes[9] = 17;
        assert!(Packet::parse(&bytes).is_none(), "UDP");
        bytes[9] = 6;
        bytes[6] = 0x20;
        assert!(Packet::parse(&bytes).is_none(), "a fragment");
        assert!(Packet::parse(&segment()[..30]).is_none(), "cut off");
        assert!(Packet::parse(&[]).is_none());
    }
}
