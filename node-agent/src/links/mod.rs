//! Links: how far away the other nodes are, measured agent to agent.
//!
//! Every agent answers probes and sends one to each peer in every sample interval, spread over it,
//! on the port (UDP) that also takes transfers (TCP). Where UDP is blocked a link is simply
//! unknown: no round-trip time and a loss of 1.

mod history;
mod probe;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fog_api::agent::{LinkSample, Peer};
use tokio::net::{UdpSocket, lookup_host};
use tokio::sync::watch;
use tokio::time::{sleep_until, timeout};

use self::history::History;
use self::probe::{Datagram, LENGTH, Mark};

/// A name that takes longer than this to resolve is tried again with the next probe.
const RESOLVE: Duration = Duration::from_secs(1);

/// What is known of all links.
#[derive(Debug, Clone, Default)]
pub struct Links {
    table: Arc<Mutex<BTreeMap<String, Link>>>,
}

#[derive(Debug, Default)]
struct Link {
    transfer_address: String,
    resolved: Option<SocketAddr>,
    history: History,
}

impl Links {
    /// The links as they are now; `bandwidth_mbps` knows what real transfers have shown.
    pub fn samples(&self, bandwidth_mbps: impl Fn(&str) -> Option<f64>) -> Vec<LinkSample> {
        let now = Instant::now();
        let sample = |(node, link): (&String, &Link)| LinkSample {
            to: node.clone(),
            rtt_ms: link.history.rtt().map(|rtt| rtt.as_secs_f64() * 1000.0),
            loss: link.history.loss(now),
            bandwidth_mbps: bandwidth_mbps(node),
        };
        self.locked(|table| table.iter().map(sample).collect())
    }

    /// Probes the peers and answers their probes, until it is dropped.
    pub async fn run(
        self,
        listen: SocketAddr,
        mut peers: watch::Receiver<Vec<Peer>>,
        mut interval: watch::Receiver<Duration>,
    ) {
        let socket = match UdpSocket::bind(listen).await {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!(%listen, %error, "cannot probe links: the UDP port cannot be bound");
                None
            }
        };
        let mut buffer = [0_u8; LENGTH + 1];
        let mut seq = 0_u64;
        let mut turn = 0_usize;
        let mut next = tokio::time::Instant::now();
        self.learn(&peers.borrow_and_update());
        loop {
            let received = async {
                match &socket {
                    Some(socket) => socket.recv_from(&mut buffer).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                received = received => {
                    // An ICMP error of an earlier probe shows up here; the probe counts as lost anyway.
                    if let (Ok((length, from)), Some(socket)) = (received, &socket) {
                        self.receive(socket, buffer.get(..length).unwrap_or_default(), from);
                    }
                }
                changed = peers.changed() => {
                    if changed.is_err() { return; }
                    self.learn(&peers.borrow_and_update());
                }
                changed = interval.changed() => if changed.is_err() { return; },
                () = sleep_until(next) => {
                    let targets: Vec<(String, String)> = self.locked(|table| {
                        table.iter().map(|(node, link)| (node.clone(), link.transfer_address.clone())).collect()
                    });
                    let pause = *interval.borrow_and_update() / u32::try_from(targets.len().max(1)).unwrap_or(u32::MAX);
                    next = tokio::time::Instant::now() + pause;
                    turn = turn.wrapping_add(1);
                    let target = targets.get(turn.checked_rem(targets.len()).unwrap_or(0));
                    if let (Some((node, address)), Some(socket)) = (target, &socket) {
                        seq += 1;
                        self.probe(socket, node, address, seq).await;
                    }
                }
            }
        }
    }

    fn locked<T>(&self, work: impl FnOnce(&mut BTreeMap<String, Link>) -> T) -> T {
        work(&mut self.table.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes over the list of peers, keeping what is known of those that stay where they are.
    fn learn(&self, peers: &[Peer]) {
        self.locked(|table| {
            table.retain(|node, link| {
                peers.iter().any(|peer| peer.node == *node && peer.transfer_address == link.transfer_address)
            });
            for peer in peers {
                table.entry(peer.node.clone()).or_insert_with(|| Link {
                    transfer_address: peer.transfer_address.clone(),
                    resolved: peer.transfer_address.parse().ok(),
                    history: History::default(),
                });
            }
        });
    }

    fn receive(&self, socket: &UdpSocket, datagram: &[u8], from: SocketAddr) {
        let now = Instant::now();
        match Datagram::decode(datagram) {
            // Losing an echo to a full queue is what a loaded link does; no reason to wait.
            Some(Datagram::Probe(mark)) => drop(socket.try_send_to(&Datagram::Echo(mark).encode(), from)),
            Some(Datagram::Echo(mark)) => self.locked(|table| {
                let _ = table.values_mut().any(|link| link.history.answered(mark, now));
            }),
            None => {}
        }
    }

    async fn probe(&self, socket: &UdpSocket, node: &str, address: &str, seq: u64) {
        let known = self.locked(|table| table.get(node).and_then(|link| link.resolved));
        let target = match known {
            Some(target) => Some(target),
            None => match timeout(RESOLVE, lookup_host(address)).await {
                Ok(Ok(mut found)) => found.next(),
                _ => None,
            },
        };
        let mark = Mark { seq, nonce: getrandom::u64().unwrap_or(seq) };
        let sent = Instant::now();
        self.locked(|table| {
            if let Some(link) = table.get_mut(node) {
                link.history.sent(mark, sent);
                // A name is resolved again once nothing answers any more: it may have moved.
                let literal = address.parse().ok();
                link.resolved = if link.history.loss(sent) < 1.0 { target } else { literal };
            }
        });
        if let Some(target) = target {
            let _ = socket.send_to(&Datagram::Probe(mark).encode(), target).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(node: &str, address: &str) -> Peer {
        Peer { node: node.to_owned(), transfer_address: address.to_owned(), runc: None }
    }

    async fn free_port() -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
        socket.local_addr().expect("address")
    }

    #[tokio::test]
    async fn two_agents_measure_each_other_and_notice_one_that_is_away() {
        let (a, b, nobody) = (free_port().await, free_port().await, free_port().await);
        let (_interval, every) = watch::channel(Duration::from_millis(40));
        let (_peers_a, of_a) = watch::channel(vec![peer("b", &b.to_string()), peer("x", &nobody.to_string())]);
        let (peers_b, of_b) = watch::channel(vec![peer("a", &format!("localhost:{}", a.port()))]);
        let (links_a, links_b) = (Links::default(), Links::default());
        let tasks = [
            tokio::spawn(links_a.clone().run(a, of_a, every.clone())),
            tokio::spawn(links_b.clone().run(b, of_b, every.clone())),
        ];
        tokio::time::sleep(Duration::from_millis(1500)).await;

        let seen = links_a.samples(|node| (node == "b").then_some(100.0));
        assert_eq!(seen[0].to, "b");
        assert!(seen[0].rtt_ms.expect("answered") < 100.0);
        assert!(seen[0].loss < 0.5);
        assert_eq!(seen[0].bandwidth_mbps, Some(100.0));
        assert_eq!((seen[1].to.as_str(), seen[1].rtt_ms, seen[1].loss), ("x", None, 1.0));
        assert!(links_b.samples(|_| None)[0].rtt_ms.is_some(), "by name");

        peers_b.send(Vec::new()).expect("running");
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(links_b.samples(|_| None).is_empty());
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
