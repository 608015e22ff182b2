//! The agents' open connections.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use fog_api::agent::ToAgent;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How many messages may wait for a slow agent before its connection is given up.
const QUEUE: usize = 256;

/// One agent's open connection.
struct Connection {
    serial: u64,
    boot: Uuid,
    /// Boxed: a channel holds room for many messages from the start.
    queue: mpsc::Sender<Box<ToAgent>>,
    closed: CancellationToken,
}

/// All of them, by node.
pub struct Agents {
    serial: AtomicU64,
    connections: Mutex<BTreeMap<String, Connection>>,
    arrivals: broadcast::Sender<String>,
}

impl Default for Agents {
    fn default() -> Self {
        Self { serial: AtomicU64::new(0), connections: Mutex::default(), arrivals: broadcast::Sender::new(1024) }
    }
}

/// What a connection's task needs: messages to send on, and when to stop.
pub struct Seat {
    serial: u64,
    /// To be sent to the agent.
    pub queue: mpsc::Receiver<Box<ToAgent>>,
    /// Cancelled when a newer connection of the same node took over.
    pub closed: CancellationToken,
}

impl Agents {
    fn connections(&self) -> MutexGuard<'_, BTreeMap<String, Connection>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection in. An older one of the same node is closed: an agent has one.
    pub fn enter(&self, node: &str, boot: Uuid) -> Seat {
        let (sender, queue) = mpsc::channel(QUEUE);
        let closed = CancellationToken::new();
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let connection = Connection { serial, boot, queue: sender, closed: closed.clone() };
        if let Some(older) = self.connections().insert(node.to_owned(), connection) {
            older.closed.cancel();
        }
        Seat { serial, queue, closed }
    }

    /// Says that the agent is ready for commands: whoever waits for it repeats what is outstanding.
    pub fn announce(&self, node: &str) {
        let _ = self.arrivals.send(node.to_owned());
    }

    /// Forgets a connection, unless a newer one took its place.
    pub fn leave(&self, node: &str, seat: &Seat) {
        let mut connections = self.connections();
        if connections.get(node).is_some_and(|connection| connection.serial == seat.serial) {
            connections.remove(node);
        }
    }

    /// The agent's start that is connected now.
    pub fn boot(&self, node: &str) -> Option<Uuid> {
        self.connections().get(node).map(|connection| connection.boot)
    }

    /// Sends if the agent is connected; what matters is repeated after the next [`Agents::announce`].
    pub fn send(&self, node: &str, message: ToAgent) -> bool {
        let connections = self.connections();
        let Some(connection) = connections.get(node) else { return false };
        match connection.queue.try_send(Box::new(message)) {
            Ok(()) => true,
            Err(_) => {
                // It does not read: a fresh connection gets everything again.
                connection.closed.cancel();
                false
            }
        }
    }

    /// Every node whose agent becomes ready from now on.
    pub fn arrivals(&self) -> broadcast::Receiver<String> {
        self.arrivals.subscribe()
    }

    /// Messages that wait for their agents.
    pub fn waiting(&self) -> usize {
        self.connections().values().map(|connection| QUEUE - connection.queue.capacity()).sum()
    }

    /// The connected nodes.
    pub fn connected(&self) -> Vec<String> {
        self.connections().keys().cloned().collect()
    }
}
