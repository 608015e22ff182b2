//! A proxy on the way between two agents that does harm: flips a bit, closes in good order, or resets. It runs outside the
//! nodes; a rule in the dialling node's network leads its agent's connections here. Each connection is harmed once, in one
//! of its two directions; connections that were there before are left alone.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use fog_lab::Node;
use rustix::net::sockopt::set_socket_linger;

use crate::random::Random;

const TABLE: &str = "fog_meddler";
const TRANSFER_PORT: u16 = 7710;
const CONNECT: Duration = Duration::from_secs(5);

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// One bit of the stream is another.
    FlipBit,
    /// Both ends see an orderly end.
    Close,
    /// Both ends see a reset.
    Reset,
}

/// Meddles until it is dropped; what passes it then goes on unharmed.
pub struct Meddler<'a> {
    from: &'a Node,
    address: SocketAddr,
    end: Arc<AtomicBool>,
    harmed: Arc<AtomicU32>,
}

impl<'a> Meddler<'a> {
    /// From now on new connections of `from`'s agent to `to`'s pass here.
    pub fn between(from: &'a Node, to: &Node, outside: &str, harm: Harm, mut random: Random) -> Result<Meddler<'a>> {
        let listener = TcpListener::bind((outside, 0)).with_context(|| format!("cannot listen at {outside}"))?;
        let address = listener.local_addr()?;
        let target: SocketAddr = format!("{}:{TRANSFER_PORT}", to.address()).parse()?;
        let (end, harmed): (Arc<AtomicBool>, Arc<AtomicU32>) = Default::default();
        let meddler = Meddler { from, address, end: Arc::clone(&end), harmed: Arc::clone(&harmed) };
        std::thread::spawn(move || {
            for source in listener.incoming() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(source) = source else { continue };
                // From the first bytes of the handshake to the last of the memory; most pass one way.
                let most = 1 << (5 + random.below(19));
                let way = Way {
                    harm,
                    after: random.below(most),
                    back: random.below(4) == 0,
                    bit: random.below(8),
                    end: Arc::clone(&end),
                    harmed: Arc::clone(&harmed),
                    broken: AtomicBool::new(false),
                };
                std::thread::spawn(move || drop(way.pass(&source, target)));
            }
        });
        let rules = format!(
            "table ip {TABLE} {{ chain out {{ type nat hook output priority -100; ip daddr {} tcp dport {TRANSFER_PORT} dnat to {address}; }}; }}",
            to.address()
        );
        from.run_with_input(&["nft", "-f", "-"], rules.as_bytes())?;
        Ok(meddler)
    }

    /// How many connections were harmed.
    pub fn harmed(&self) -> u32 {
        self.harmed.load(Ordering::SeqCst)
    }
}

impl Drop for Meddler<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.from.run(&["nft", "delete", "table", "ip", TABLE]) {
            eprintln!("the meddler's rule stays: {error:#}");
        }
        self.end.store(true, Ordering::SeqCst);
        // The listener waits: this wakes it.
        drop(TcpStream::connect_timeout(&self.address, CONNECT));
    }
}

struct Way {
    harm: Harm,
    after: u64,
    back: bool,
    bit: u64,
    end: Arc<AtomicBool>,
    harmed: Arc<AtomicU32>,
    broken: AtomicBool,
}

impl Way {
    /// Until both directions have ended.
    fn pass(self, source: &TcpStream, target: SocketAddr) -> Result<()> {
        let destination = TcpStream::connect_timeout(&target, CONNECT)?;
        for stream in [source, &destination] {
            stream.set_nodelay(true)?;
        }
        std::thread::scope(|scope| {
            let (way, to) = (&self, &destination);
            scope.spawn(move || way.copy(source, to, !way.back));
            way.copy(to, source, way.back);
        });
        Ok(())
    }

    /// Copies until an end; does the harm on the way where it is to be done here.
    fn copy(&self, mut from: &TcpStream, mut to: &TcpStream, here: bool) {
        let mut buffer = vec![0; 64 << 10];
        let mut left = Some(self.after).filter(|_| here);
        while let Ok(count) = from.read(&mut buffer) {
            if self.broken.load(Ordering::SeqCst) {
                return;
            }
            if count == 0 {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            match left {
                Some(before) if before >= count as u64 => left = Some(before - count as u64),
                Some(before) if !self.end.load(Ordering::SeqCst) => {
                    left = None;
                    self.harmed.fetch_add(1, Ordering::SeqCst);
                    if self.harm != Harm::FlipBit {
                        return self.break_up(from, to);
                    }
                    buffer[before as usize] ^= 1 << self.bit;
                }
                _ => left = None,
            }
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        for stream in [from, to] {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// The other direction ends too, and with it both sockets.
    fn break_up(&self, from: &TcpStream, to: &TcpStream) {
        self.broken.store(true, Ordering::SeqCst);
        for stream in [from, to] {
            if self.harm == Harm::Reset {
                // Closing it resets it; until then the other end must not see that nothing more comes.
                let _ = set_socket_linger(stream, Some(Duration::ZERO));
            }
            let _ = stream.shutdown(if self.harm == Harm::Reset { Shutdown::Read } else { Shutdown::Both });
        }
    }
}
