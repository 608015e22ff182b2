//! Clients that never reconnect: what they see is what happened to the server's state and to their connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fog_lab::wait_until;

use crate::cluster::DEADLINE;
use crate::one_connection::connect;

/// A client at work in a thread of its own. Each round must end as it should.
pub struct Worker {
    name: &'static str,
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    thread: JoinHandle<Result<()>>,
}

impl Worker {
    /// Repeats `round`, which is told how many came before it.
    pub fn start(name: &'static str, mut round: impl FnMut(u64) -> Result<()> + Send + 'static) -> Worker {
        let (stop, rounds): (Arc<AtomicBool>, Arc<AtomicU64>) = Default::default();
        let (ended, counted) = (Arc::clone(&stop), Arc::clone(&rounds));
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let number = counted.load(Ordering::Relaxed);
                round(number).with_context(|| format!("{name}, round {number}"))?;
                counted.store(number + 1, Ordering::Relaxed);
            }
            Ok(())
        });
        Worker { name, stop, rounds, thread }
    }

    /// Waits until so many more rounds are over.
    pub fn wait_more(&self, more: u64) -> Result<()> {
        let wanted = self.rounds.load(Ordering::Relaxed) + more;
        wait_until(DEADLINE, &format!("{} to go on", self.name), || {
            let over = self.rounds.load(Ordering::Relaxed) >= wanted;
            // Its own words come from `stop`.
            Ok((over || self.thread.is_finished()).then_some(()))
        })
    }

    /// Ends it and says how many rounds there were.
    pub fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("{} panicked", self.name))??;
        Ok(self.rounds.load(Ordering::Relaxed))
    }
}

/// One GET over a connection that is kept.
pub fn get(stream: &mut BufReader<TcpStream>, path: &str) -> Result<Vec<u8>> {
    write!(stream.get_mut(), "GET {path} HTTP/1.1\r\nHost: fog\r\n\r\n").context("the connection takes nothing")?;
    let (mut length, mut line) = (None, String::new());
    loop {
        line.clear();
        ensure!(stream.read_line(&mut line)? > 0, "the server closed the connection");
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = Some(value.trim().parse()?);
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length.context("no length")?];
    stream.read_exact(&mut body).context("the body ended early")?;
    Ok(body)
}

/// An MQTT connection, as much of version 3.1.1 as this needs.
pub struct Mqtt(BufReader<TcpStream>);

impl Mqtt {
    /// Connects with a clean session and no keep-alive.
    pub fn connect(address: SocketAddr, name: &str) -> Result<Mqtt> {
        let mut mqtt = Mqtt(connect(address)?);
        let head = [&[0, 4][..], b"MQTT", &[4, 2, 0, 0]].concat();
        mqtt.send(0x10, &[head, text(name)].concat())?;
        let (kind, body) = mqtt.receive()?;
        ensure!(kind == 0x20 && body == [0, 0], "the broker refused: {kind:#x} {body:?}");
        Ok(mqtt)
    }

    /// Subscribes, each message at least once.
    pub fn subscribe(&mut self, topic: &str) -> Result<()> {
        self.send(0x82, &[vec![0, 1], text(topic), vec![1]].concat())?;
        let (kind, body) = self.receive()?;
        ensure!(kind == 0x90 && body == [0, 1, 1], "not subscribed: {kind:#x} {body:?}");
        Ok(())
    }

    /// Publishes and waits for the broker's word that it has it.
    pub fn publish(&mut self, topic: &str, message: &str) -> Result<()> {
        self.send(0x32, &[text(topic), vec![0, 7], message.as_bytes().to_vec()].concat())?;
        let (kind, body) = self.receive()?;
        ensure!(kind == 0x40 && body == [0, 7], "not acknowledged: {kind:#x} {body:?}");
        Ok(())
    }

    /// Waits for a message and acknowledges it.
    pub fn message(&mut self) -> Result<String> {
        let (kind, body) = self.receive()?;
        ensure!(kind & 0xf0 == 0x30, "no message: {kind:#x}");
        let topic = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
        self.send(0x40, &body[topic..topic + 2])?;
        Ok(String::from_utf8_lossy(&body[topic + 2..]).into_owned())
    }

    fn send(&mut self, kind: u8, body: &[u8]) -> Result<()> {
        ensure!(body.len() < 128, "this client says only short things");
        self.0.get_mut().write_all(&[&[kind, body.len() as u8], body].concat()).context("the connection takes nothing")
    }

    fn receive(&mut self) -> Result<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).context("the broker said nothing")?;
        ensure!(head[1] < 128, "this client hears only short things");
        let mut body = vec![0; head[1].into()];
        self.0.read_exact(&mut body)?;
        Ok((head[0], body))
    }
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}

/// So long a client thinks between two rounds.
pub const THINKS: Duration = Duration::from_millis(5);
