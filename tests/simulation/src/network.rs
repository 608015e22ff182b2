//! The network between the agents and the orchestrator, and between the agents: bytes that take their time.
//!
//! A connection is two directions. What is written arrives after the way's delay, in order, never twice: it stands for
//! TCP. A direction that is cut holds what is written to it until it is whole again, as TCP would send it anew, or until
//! the connection is reset. While one direction is cut, nobody can connect.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use fog_agent::channel::{Dial, Wire};
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep_until};

/// Bytes under way in one direction before a writer waits.
const WINDOW: usize = 256 << 10;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One direction of one connection.
#[derive(Debug, Default)]
struct Way {
    delay: Duration,
    cut: bool,
    under_way: VecDeque<(Option<Instant>, Vec<u8>)>,
    bytes: usize,
    ended: bool,
    reset: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Way {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    fn set_cut(&mut self, cut: bool) {
        self.cut = cut;
        if !cut {
            let at = Instant::now() + self.delay;
            for (arrives, _) in self.under_way.iter_mut().filter(|(arrives, _)| arrives.is_none()) {
                *arrives = Some(at);
            }
        }
        self.wake();
    }

    fn reset(&mut self) {
        self.reset = true;
        self.under_way.clear();
        self.wake();
    }
}

/// One end of a connection.
#[derive(Debug)]
pub struct End {
    incoming: Arc<Mutex<Way>>,
    outgoing: Arc<Mutex<Way>>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let mut guard = lock(&this.incoming);
            let way = &mut *guard;
            if way.reset {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            let now = Instant::now();
            let next = match way.under_way.front_mut() {
                Some((Some(arrives), bytes)) if *arrives <= now => {
                    let taken = bytes.len().min(buffer.remaining());
                    buffer.put_slice(&bytes[..taken]);
                    bytes.drain(..taken);
                    if bytes.is_empty() {
                        way.under_way.pop_front();
                    }
                    way.bytes -= taken;
                    if let Some(writer) = way.writer.take() {
                        writer.wake();
                    }
                    return Poll::Ready(Ok(()));
                }
                Some((arrives, _)) => *arrives,
                None if way.ended && !way.cut => return Poll::Ready(Ok(())),
                None => None,
            };
            way.reader = Some(context.waker().clone());
            drop(guard);
            let Some(next) = next else { return Poll::Pending };
            let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(next)));
            timer.as_mut().reset(next);
            match timer.as_mut().poll(context) {
                Poll::Ready(()) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut way = lock(&self.outgoing);
        if way.reset || way.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if way.bytes >= WINDOW {
            way.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let arrives = (!way.cut).then(|| Instant::now() + way.delay);
        way.under_way.push_back((arrives, bytes.to_vec()));
        way.bytes += bytes.len();
        if let Some(reader) = way.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut way = lock(&self.outgoing);
        way.ended = true;
        way.wake();
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut way = lock(&self.outgoing);
        way.ended = true;
        way.wake();
        drop(way);
        lock(&self.incoming).reset();
    }
}

/// Which directions between a node and the orchestrator are cut.
#[derive(Debug, Clone, Copy, Default)]
struct Cut {
    up: bool,
    down: bool,
}

/// Both directions of a connection: up to the orchestrator, down to the agent.
type Both = (Weak<Mutex<Way>>, Weak<Mutex<Way>>);

#[derive(Debug, Default)]
struct Inner {
    listener: Option<mpsc::UnboundedSender<End>>,
    cut: BTreeMap<String, Cut>,
    connections: Vec<(String, Both)>,
    /// Pairs of nodes that do not reach each other.
    apart: BTreeSet<(String, String)>,
    /// The way's delay, by node.
    delays: BTreeMap<String, Duration>,
}

/// All of it.
#[derive(Debug, Clone, Default)]
pub struct Network(Arc<Mutex<Inner>>);

impl Network {
    /// From now on connections to the orchestrator arrive here.
    pub fn listen(&self) -> Listener {
        let (sender, incoming) = mpsc::unbounded_channel();
        lock(&self.0).listener = Some(sender);
        Listener(incoming)
    }

    /// The orchestrator is gone, and every connection to it.
    pub fn end_listening(&self) {
        lock(&self.0).listener = None;
        self.reset(None);
    }

    /// How long bytes take between a node and the orchestrator, from the next connection on.
    pub fn set_delay(&self, node: &str, delay: Duration) {
        lock(&self.0).delays.insert(node.to_owned(), delay);
    }

    /// Cuts directions between a node and the orchestrator, or mends them.
    pub fn cut(&self, node: &str, up: bool, down: bool) {
        let mut inner = lock(&self.0);
        inner.cut.insert(node.to_owned(), Cut { up, down });
        for (_, both) in inner.connections.iter().filter(|(of, _)| of == node) {
            for (way, cut) in [(&both.0, up), (&both.1, down)] {
                if let Some(way) = way.upgrade() {
                    lock(&way).set_cut(cut);
                }
            }
        }
    }

    /// Resets a node's connections, or all.
    pub fn reset(&self, node: Option<&str>) {
        let mut inner = lock(&self.0);
        let (doomed, rest) =
            std::mem::take(&mut inner.connections).into_iter().partition(|(of, _)| node.is_none_or(|node| node == of));
        inner.connections = rest;
        drop(inner);
        for (_, (up, down)) in Vec::<(String, Both)>::from_iter(doomed) {
            for way in [up, down].iter().filter_map(Weak::upgrade) {
                lock(&way).reset();
            }
        }
    }

    /// Whether two nodes reach each other, from now on.
    pub fn set_apart(&self, one: &str, other: &str, apart: bool) {
        let pair = if one < other { (one.to_owned(), other.to_owned()) } else { (other.to_owned(), one.to_owned()) };
        let mut inner = lock(&self.0);
        if apart {
            inner.apart.insert(pair)
        } else {
            inner.apart.remove(&pair)
        };
    }

    /// Whether two nodes reach each other.
    pub fn reach(&self, one: &str, other: &str) -> bool {
        let pair = if one < other { (one.to_owned(), other.to_owned()) } else { (other.to_owned(), one.to_owned()) };
        !lock(&self.0).apart.contains(&pair)
    }

    /// Everything reaches everything.
    pub fn mend(&self) {
        let nodes: Vec<String> = {
            let mut inner = lock(&self.0);
            inner.apart.clear();
            inner.cut.keys().cloned().collect()
        };
        nodes.iter().for_each(|node| self.cut(node, false, false));
    }

    fn connect(&self, node: &str) -> Option<io::Result<End>> {
        let mut inner = lock(&self.0);
        let cut = inner.cut.get(node).copied().unwrap_or_default();
        if cut.up || cut.down {
            return None;
        }
        let Some(listener) = inner.listener.clone() else {
            return Some(Err(io::ErrorKind::ConnectionRefused.into()));
        };
        let delay = inner.delays.get(node).copied().unwrap_or(Duration::from_millis(5));
        let way = || Arc::new(Mutex::new(Way { delay, ..Way::default() }));
        let (up, down) = (way(), way());
        inner.connections.retain(|(_, (up, _))| up.strong_count() > 0);
        inner.connections.push((node.to_owned(), (Arc::downgrade(&up), Arc::downgrade(&down))));
        let theirs = End { incoming: Arc::clone(&up), outgoing: Arc::clone(&down), timer: None };
        let ours = End { incoming: down, outgoing: up, timer: None };
        Some(listener.send(theirs).map(|()| ours).map_err(|_| io::ErrorKind::ConnectionRefused.into()))
    }
}

/// A node's way to the orchestrator.
#[derive(Debug)]
pub struct Dialler {
    /// The network.
    pub network: Network,
    /// The node.
    pub node: String,
    /// Its address.
    pub address: SocketAddr,
}

impl Dial for Dialler {
    fn dial<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<(Box<dyn Wire>, SocketAddr)>> {
        Box::pin(async move {
            match self.network.connect(&self.node) {
                Some(end) => Ok((Box::new(end?) as Box<dyn Wire>, self.address)),
                None => std::future::pending().await, // nobody answers
            }
        })
    }
}

/// Connections that arrive at the orchestrator.
pub struct Listener(mpsc::UnboundedReceiver<End>);

impl axum::serve::Listener for Listener {
    type Io = End;
    type Addr = ();

    async fn accept(&mut self) -> (End, ()) {
        match self.0.recv().await {
            Some(end) => (end, ()),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}
