//! A node's agent: the real engine, channel and outbox, and what starts and ends them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fog_agent::channel::{Channel, Outbox, carry_out_with};
use fog_agent::config::{Config, OrchestratorUrl};
use fog_agent::engine::{Engine, EngineConfig};
use fog_agent::runtime::Docker;
use fog_api::agent::{LinkSample, NodeFacts, Outcome, Sample, Step, WorkloadSample};
use fog_api::workload::WorkloadState;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Broken, Cluster, State};
use crate::network::{Dialler, Network};
use crate::world::{Life, Node};

/// The token of everybody here.
pub const TOKEN: &str = "simulated-simulated-simulated-simulated";

/// What lasts across an agent's lives.
pub struct Agent {
    /// The node's name.
    pub name: String,
    /// Its place in the list.
    pub index: u8,
    /// How busy the node is, 0 to 1.
    pub load: Arc<std::sync::Mutex<f64>>,
    /// How far its clock is off, in seconds.
    pub clock_off_s: Arc<std::sync::atomic::AtomicI64>,
    folder: PathBuf,
    lives: u32,
    now: Option<(Life, CancellationToken)>,
}

impl Agent {
    /// One that has never run.
    pub fn new(index: u8, folder: &Path) -> Agent {
        let name = format!("n{}", index + 1);
        let folder = folder.join(&name);
        Agent { name, index, load: Arc::default(), clock_off_s: Arc::default(), folder, lives: 0, now: None }
    }

    /// Whether it runs.
    pub fn runs(&self) -> bool {
        self.now.is_some()
    }

    fn state(&self, life: u32) -> PathBuf {
        self.folder.join(format!("state-{life}"))
    }

    /// Dies at once: its disk stays as it is, its connections are reset, nothing of it acts any more.
    pub fn die(&mut self, cluster: &Cluster, network: &Network) -> anyhow::Result<()> {
        let Some((life, shutdown)) = self.now.take() else { return Ok(()) };
        life.end();
        shutdown.cancel();
        network.reset(Some(&self.name));
        // The dead one's tasks may still write: into a disk that nobody reads any more.
        let (old, new) = (self.state(self.lives), self.state(self.lives + 1));
        copy(&old, &new)?;
        if cluster.is(Broken::ForgetsTheJournal) {
            std::fs::remove_dir_all(new.join("migrations"))?;
        }
        let keeper = !cluster.is(Broken::RunsOnZeros);
        cluster.change(|inner| {
            inner.say(format!("{}: the agent died", self.name));
            inner.agent_died(&self.name, keeper);
        });
        if self.lives > 1 {
            let _ = std::fs::remove_dir_all(self.state(self.lives - 1));
        }
        Ok(())
    }

    /// Starts it.
    pub async fn start(&mut self, cluster: &Cluster, network: &Network) -> anyhow::Result<()> {
        self.lives += 1;
        let life = Life::default();
        let shutdown = CancellationToken::new();
        let state_dir = self.state(self.lives);
        std::fs::create_dir_all(&state_dir)?;
        let socket = self.folder.join("docker.sock");
        std::fs::write(&socket, "")?;
        let run_dir = self.folder.join("run");
        let listen = std::net::SocketAddr::from(([10, 0, 0, self.index + 1], 7710));
        let engine = EngineConfig {
            node: self.name.clone(),
            state_dir: state_dir.clone(),
            images_dir: run_dir.join("images"),
            run_dir,
            transfer_listen: listen,
            docker_socket: socket.clone(),
        };
        let node =
            Node { cluster: cluster.clone(), network: network.clone(), name: self.name.clone(), life: life.clone() };
        let engine = Engine::in_world(engine, Docker::new(&socket)?, Arc::new(node))?;
        engine.recover().await?;
        let config = Config {
            orchestrator: Some(
                OrchestratorUrl::try_from("http://10.0.0.100:7700".to_owned()).map_err(anyhow::Error::msg)?,
            ),
            token: Some(TOKEN.to_owned()),
            node: self.name.clone(),
            transfer_listen: listen,
            state_dir,
            docker_socket: socket,
            ..Config::default()
        };
        let outbox = Arc::new(Outbox::new(1800));
        let (_facts, facts) = watch::channel(NodeFacts {
            arch: "x86_64".into(),
            kernel: "simulated".into(),
            cpus: 4.0,
            cpu_score: 1.0,
            memory_bytes: 8 << 30,
            cgroup: "v2".into(),
            docker: Some("28.5.2".into()),
            criu: Some("4.2.1".into()),
            runc: Some("1.3.6".into()),
            ..NodeFacts::default()
        });
        let (peers, _) = watch::channel(Vec::new());
        let (interval, wanted) = watch::channel(Duration::from_secs(30));
        let (worker, witness, name) = (engine.clone(), cluster.clone(), self.name.clone());
        let carry_out = carry_out_with(move |command, progress| {
            let (engine, cluster, node, workload) =
                (worker.clone(), witness.clone(), name.clone(), command.workload.clone());
            async move {
                let answer = engine.run(command, progress).await;
                let said = match &answer.outcome {
                    Outcome::Done(_) => "done".to_owned(),
                    Outcome::Failed(failure) => format!("{:?}: {}", failure.kind, failure.message),
                };
                cluster.change(|inner| {
                    let migration = inner.name(answer.key.migration);
                    inner.say(format!("{node}: {} of {migration} ({workload}): {said}", answer.key.step));
                    let thawed = answer.key.step == Step::Thaw && matches!(answer.outcome, Outcome::Done(_));
                    if thawed && inner.seen_running.insert(answer.key.migration) && !inner.hurt.contains(&workload) {
                        let state = inner.find(&node, &workload).map(|one| one.state);
                        if state != Some(State::Running) {
                            inner.violation(format!("{node} says that {workload} runs again, and it is {state:?}"));
                        }
                    }
                });
                answer
            }
        });
        let dialler = Dialler { network: network.clone(), node: self.name.clone(), address: listen };
        let channel = Channel::new(Arc::new(config), Arc::clone(&outbox), facts, peers, interval, carry_out);
        let until = shutdown.clone();
        tokio::spawn(async move {
            // What tells of the node's facts lives as long as the agent.
            channel.dialling_with(Arc::new(dialler)).run(until).await;
            drop(_facts);
        });
        let sampler = Sampler {
            cluster: cluster.clone(),
            node: self.name.clone(),
            load: Arc::clone(&self.load),
            clock_off_s: Arc::clone(&self.clock_off_s),
            outbox,
        };
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(sampler.run(wanted)));
        self.now = Some((life, shutdown));
        cluster.say(format!("{}: the agent starts", self.name));
        Ok(())
    }
}

/// Measures the simulated node.
struct Sampler {
    cluster: Cluster,
    node: String,
    load: Arc<std::sync::Mutex<f64>>,
    clock_off_s: Arc<std::sync::atomic::AtomicI64>,
    outbox: Arc<Outbox>,
}

impl Sampler {
    async fn run(self, mut interval: watch::Receiver<Duration>) {
        // The first one soon, for the cluster is to know what is where.
        let mut next = Instant::now() + Duration::from_secs(1);
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                changed = interval.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    continue;
                }
            }
            next = Instant::now() + *interval.borrow();
            self.outbox.put(self.sample());
        }
    }

    fn sample(&self) -> Sample {
        let cpu = *self.load.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let off = self.clock_off_s.load(std::sync::atomic::Ordering::Relaxed);
        let inner = self.cluster.inner();
        let here = inner.containers.iter().filter(|((node, _), _)| *node == self.node);
        let up = here.filter(|(_, one)| matches!(one.state, State::Running | State::Paused | State::Held));
        let count = up.clone().count().max(1);
        let workload = |one: &crate::cluster::Container| WorkloadSample {
            name: one.workload.clone(),
            container: one.id.clone(),
            image: "fog/busybox:1".into(),
            state: if one.state == State::Paused { WorkloadState::Paused } else { WorkloadState::Running },
            cpus: cpu * 4.0 / count as f64,
            memory_bytes: 64 << 20,
            dirty_bytes_per_s: None,
            disk_bytes: None,
            processes: Some(1),
            cpus_limit: None,
            memory_limit_bytes: None,
            labels: [("fogshift.post-copy".to_owned(), "allowed".to_owned())].into(),
            obstacles: Vec::new(),
            bind_mounts: Vec::new(),
        };
        let workloads = (!inner.docker_away.contains(&self.node)).then(|| up.map(|(_, one)| workload(one)).collect());
        let link = |to: String| LinkSample { to, rtt_ms: Some(2.0), loss: 0.0, bandwidth_mbps: Some(900.0) };
        let others = (1..=3).map(|number| format!("n{number}")).filter(|name| *name != self.node);
        Sample {
            seq: 0,
            at: Timestamp::now() + SignedDuration::from_secs(off),
            cpu,
            run_queue: cpu * 4.0,
            load1: cpu * 4.0,
            memory: 0.3,
            pressure: None,
            disk: 0.3,
            network_received_bytes_per_s: 0.0,
            network_sent_bytes_per_s: 0.0,
            temperature_c: None,
            workloads,
            links: others.map(link).collect(),
        }
    }
}

/// Copies a folder.
pub fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let (entry, to) = (entry?, to);
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
