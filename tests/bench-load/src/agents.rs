//! Simulated agents by the thousand: each has its own connection and sends what a real agent sends, at its own moment of
//! the interval. They carry no orders out; `fog_sim` does.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fog_api::agent::{
    CHANNEL_PATH, FromAgent, Heartbeat, Hello, LinkSample, NodeFacts, PROTOCOL, Pressure, Sample, WorkloadSample,
};
use fog_api::workload::WorkloadState;
use futures_util::{SinkExt, StreamExt};
use hdrhistogram::Histogram;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use uuid::Uuid;

/// The peers that the orchestrator gives to each: so many places further in the ring of names.
const STEPS: [usize; 18] = [1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1597, 2584, 4181];

/// What all agents count together.
#[derive(Debug)]
pub struct Counts {
    /// Open connections.
    pub connected: AtomicUsize,
    /// Samples taken.
    pub taken: AtomicU64,
    /// Samples that were acknowledged.
    pub acknowledged: AtomicU64,
    /// Times a connection was lost.
    pub lost: AtomicU64,
    latency: Mutex<Histogram<u64>>,
}

impl Counts {
    pub fn new() -> Result<Arc<Self>> {
        Ok(Arc::new(Self {
            connected: AtomicUsize::new(0),
            taken: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            latency: Mutex::new(Histogram::new_with_bounds(1, 120_000_000, 3)?),
        }))
    }

    /// Microseconds from sending to the acknowledgement since the last call.
    pub fn take_latency(&self) -> Histogram<u64> {
        let mut latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = latency.clone();
        latency.reset();
        taken
    }

    fn acknowledged(&self, samples: u64, took: Duration) {
        self.acknowledged.fetch_add(samples, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.latency.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(micros);
    }
}

/// One agent.
pub struct Agent {
    pub number: usize,
    pub of: usize,
    pub containers: usize,
    pub url: String,
    pub token: String,
    pub interval: watch::Receiver<Duration>,
    pub counts: Arc<Counts>,
}

pub fn name(number: usize) -> String {
    format!("node-{number:05}")
}

impl Agent {
    /// Dials, samples, dials again, until it is dropped. What is not acknowledged is kept.
    pub async fn run(mut self) {
        let boot = Uuid::new_v4();
        let mut kept: Vec<Sample> = Vec::new();
        let mut seq = 0;
        // Its own moment of the interval, evenly spread.
        let share = self.number as f64 / self.of as f64;
        let mut next = tokio::time::Instant::now() + self.interval.borrow().mul_f64(share);
        loop {
            let before = self.counts.connected.load(Ordering::Relaxed);
            if self.converse(boot, &mut kept, &mut seq, &mut next).await.is_err() && before > 0 {
                self.counts.lost.fetch_add(1, Ordering::Relaxed);
            }
            // As agents do: not all at the same moment.
            tokio::time::sleep(Duration::from_millis(500) + Duration::from_secs(1).mul_f64(share)).await;
        }
    }

    async fn converse(
        &mut self,
        boot: Uuid,
        kept: &mut Vec<Sample>,
        seq: &mut u64,
        next: &mut tokio::time::Instant,
    ) -> Result<()> {
        let mut request = format!("{}{CHANNEL_PATH}", self.url.replacen("http", "ws", 1)).into_client_request()?;
        request.headers_mut().insert("authorization", format!("Bearer {}", self.token).parse()?);
        let small = WebSocketConfig::default().read_buffer_size(2048).write_buffer_size(0);
        let (mut socket, _) = tokio_tungstenite::connect_async_with_config(request, Some(small), true).await?;
        socket.send(text(&FromAgent::Hello(self.hello(boot)))?).await?;
        loop {
            match socket.next().await.context("ended")?? {
                Message::Text(message) if message.contains(r#""type":"welcome""#) => break,
                Message::Text(message) if message.contains(r#""type":"refused""#) => anyhow::bail!("{message}"),
                _ => {}
            }
        }
        self.counts.connected.fetch_add(1, Ordering::Relaxed);
        let ended = self.exchange(&mut socket, kept, seq, next).await;
        self.counts.connected.fetch_sub(1, Ordering::Relaxed);
        ended
    }

    async fn exchange<S>(
        &mut self,
        socket: &mut tokio_tungstenite::WebSocketStream<S>,
        kept: &mut Vec<Sample>,
        seq: &mut u64,
        next: &mut tokio::time::Instant,
    ) -> Result<()>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let mut sent: Option<(u64, Instant)> = None;
        loop {
            if sent.is_none() && !kept.is_empty() {
                let up_to = kept.last().map_or(0, |sample| sample.seq);
                let heartbeat = FromAgent::Heartbeat(Heartbeat { samples: kept.clone() });
                socket.send(text(&heartbeat)?).await?;
                sent = Some((up_to, Instant::now()));
            }
            tokio::select! {
                () = tokio::time::sleep_until(*next) => {
                    *next += *self.interval.borrow_and_update();
                    *seq += 1;
                    self.counts.taken.fetch_add(1, Ordering::Relaxed);
                    kept.push(self.sample(*seq));
                }
                message = socket.next() => match message.context("ended")?? {
                    Message::Text(message) => {
                        let Some(up_to) = received(&message) else { continue };
                        let before = kept.len();
                        kept.retain(|sample| sample.seq > up_to);
                        if let Some((_, at)) = sent.take_if(|(last, _)| *last <= up_to) {
                            self.counts.acknowledged((before - kept.len()) as u64, at.elapsed());
                        }
                    }
                    Message::Close(_) => return Ok(()),
                    _ => {}
                },
            }
        }
    }

    fn hello(&self, boot: Uuid) -> Hello {
        Hello {
            protocol: PROTOCOL,
            node: name(self.number),
            agent_version: "simulated".into(),
            boot,
            transfer_address: format!("{}.simulated:7710", name(self.number)),
            facts: NodeFacts {
                arch: "x86_64".into(),
                kernel: "6.12.48+deb13-amd64".into(),
                cpus: 4.0,
                cpu_score: 1.0,
                memory_bytes: 8 << 30,
                cgroup: "v2".into(),
                docker: Some("28.5.2".into()),
                criu: Some("4.2.1".into()),
                runc: Some("1.3.6".into()),
                labels: [("site".to_owned(), format!("site-{}", self.number % 50))].into(),
                ..NodeFacts::default()
            },
        }
    }

    pub fn sample(&self, seq: u64) -> Sample {
        // One node in twenty is overloaded: the planner has to think about it.
        let cpu =
            if self.number.is_multiple_of(20) { 0.85 } else { 0.2 + 0.001 * ((self.number as u64 + seq) % 300) as f64 };
        let link = |step: usize| LinkSample {
            to: name((self.number + STEPS[step]) % self.of),
            rtt_ms: Some(2.0 + step as f64),
            loss: 0.0,
            bandwidth_mbps: None,
        };
        Sample {
            seq,
            at: Timestamp::now(),
            cpu,
            run_queue: (cpu * 4.0).round(),
            load1: cpu * 4.0,
            memory: 0.4,
            pressure: Some(Pressure { cpu: 0.01, memory: 0.0, io: 0.02 }),
            disk: 0.3,
            network_received_bytes_per_s: 51_234.5,
            network_sent_bytes_per_s: 20_123.25,
            temperature_c: Some(51.5),
            workloads: Some((0..self.containers).map(|number| self.workload(number)).collect()),
            links: (0..STEPS.len()).filter(|step| STEPS[*step] < self.of).map(link).collect(),
        }
    }

    fn workload(&self, number: usize) -> WorkloadSample {
        WorkloadSample {
            name: format!("work-{:05}-{number}", self.number),
            container: format!("{:064x}", self.number * 1000 + number),
            image: "registry.example/sensor-gateway:1.4.2".into(),
            state: WorkloadState::Running,
            cpus: 0.05,
            memory_bytes: 48 << 20,
            labels: [("fogshift.group".to_owned(), format!("group-{}", self.number % 100))].into(),
            ..serde_json::from_value(serde_json::json!({
                "name": "", "container": "", "image": "", "state": "running", "cpus": 0.0, "memory_bytes": 0,
                "cpus_limit": null, "memory_limit_bytes": null, "labels": {}, "obstacles": []
            }))
            .unwrap_or_else(|error| panic!("a sample's form has changed: {error}"))
        }
    }
}

fn received(message: &str) -> Option<u64> {
    let (_, rest) = message.split_once(r#""up_to":"#)?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn text(message: &FromAgent) -> Result<Message> {
    Ok(Message::Text(serde_json::to_string(message)?.into()))
}
