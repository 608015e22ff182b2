//! A Redis client with one connection that it never makes anew: it counts, 500 times a second, and no number may be
//! missing or come twice.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fog_lab::wait_until;

use crate::cluster::DEADLINE;

/// So long a client of 500 operations a second thinks between two of them.
const THINKS: Duration = Duration::from_millis(2);

/// What a client saw.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// Answered operations; each was one higher than the one before.
    pub operations: u64,
    /// The longest wait for an answer.
    pub worst: Duration,
}

/// A client at work.
pub struct Client {
    stop: Arc<AtomicBool>,
    operations: Arc<AtomicU64>,
    worst_us: Arc<AtomicU64>,
    thread: JoinHandle<Result<()>>,
}

/// One request and its answer's line.
pub fn ask(stream: &mut BufReader<TcpStream>, request: &str) -> Result<String> {
    stream.get_mut().write_all(format!("{request}\r\n").as_bytes()).context("the connection takes nothing")?;
    let mut line = String::new();
    let length = stream.read_line(&mut line).context("the connection gives nothing")?;
    ensure!(length > 0, "the server closed the connection");
    Ok(line.trim_end().to_owned())
}

/// Opens a connection.
pub fn connect(address: SocketAddr) -> Result<BufReader<TcpStream>> {
    let stream = wait_until(DEADLINE, &format!("{address} to answer"), || {
        Ok(TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok())
    })?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    Ok(BufReader::new(stream))
}

impl Client {
    /// Connects and begins to count with `INCR`.
    pub fn start(address: SocketAddr) -> Result<Client> {
        let mut stream = connect(address)?;
        let (stop, operations, worst_us) = (Arc::default(), Arc::default(), Arc::default());
        let client = Client {
            stop: Arc::clone(&stop),
            operations: Arc::clone(&operations),
            worst_us: Arc::clone(&worst_us),
            thread: std::thread::spawn(move || {
                while !AtomicBool::load(&stop, Ordering::Relaxed) {
                    let asked = Instant::now();
                    let answer = ask(&mut stream, "INCR counter")?;
                    AtomicU64::fetch_max(&worst_us, asked.elapsed().as_micros() as u64, Ordering::Relaxed);
                    let count = AtomicU64::fetch_add(&operations, 1, Ordering::Relaxed) + 1;
                    ensure!(answer == format!(":{count}"), "operation {count} was answered {answer}");
                    sleep(THINKS);
                }
                Ok(())
            }),
        };
        Ok(client)
    }

    /// Waits until so many more operations were answered.
    pub fn wait_more(&self, more: u64) -> Result<()> {
        let wanted = self.operations.load(Ordering::Relaxed) + more;
        wait_until(DEADLINE, "the client to be answered", || {
            ensure!(!self.thread.is_finished(), "the client gave up after {:?}", self.operations);
            Ok((self.operations.load(Ordering::Relaxed) >= wanted).then_some(()))
        })
    }

    /// The longest wait since this was last asked.
    pub fn worst(&self) -> Duration {
        Duration::from_micros(self.worst_us.swap(0, Ordering::Relaxed))
    }

    /// Ends it; an operation that was lost or repeated is an error.
    pub fn stop(self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        let operations = self.operations;
        self.thread.join().map_err(|_| anyhow::anyhow!("the client panicked"))??;
        Ok(Seen {
            operations: operations.load(Ordering::Relaxed),
            worst: Duration::from_micros(self.worst_us.load(Ordering::Relaxed)),
        })
    }
}
