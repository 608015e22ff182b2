//! The running agent: the parts, wired together.
//!
//! ```text
//! sampler --> outbox --> channel <==> orchestrator
//! links ----^              |
//!                       engine <==> other agents
//! ```

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fog_api::agent::{NodeFacts, Resize, Resized};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::channel::{Channel, Outbox, carry_out_with, check_with, examine_with, resize_with};
use crate::config::Config;
use crate::doctor;
use crate::engine::{Engine, EngineConfig, EngineError};
use crate::facts;
use crate::links::Links;
use crate::lock::{Lock, LockError};
use crate::runtime::{Docker, DockerError};
use crate::sampler::Sampler;

/// Ending takes no longer than this: what the engine has begun is in its journal.
const LAST_WORDS: Duration = Duration::from_millis(1500);

/// Why the agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Nobody to report to.
    #[error("no orchestrator: set `orchestrator` in the configuration, or FOG_ORCHESTRATOR")]
    NoOrchestrator,
    /// The state directory is taken.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The address of Docker's socket makes no sense.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// The engine's files cannot be used.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Other agents could not reach this one.
    #[error("cannot listen on {address} for other agents: {source}; `fog-agent doctor` says more")]
    Transfers {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// fog-runc could not reach the agent.
    #[error("cannot listen for fog-runc in {directory}: {source}")]
    Runtime {
        /// Where.
        directory: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// Runs until `shutdown`, then leaves: containers and programs of a migration under way go on.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), StartError> {
    if config.orchestrator.is_none() {
        return Err(StartError::NoOrchestrator);
    }
    let _lock = Lock::take(&config.state_dir)?;
    let config = Arc::new(config);
    let docker = Docker::new(&config.docker_socket)?;
    let sampler = Sampler::new(&config, docker.clone());
    let engine = Engine::new(engine_config(&config))?;
    tracing::info!(node = config.node, scope = ?config.scope, "fog-agent {} starts", env!("CARGO_PKG_VERSION"));
    engine.recover().await?;

    let (known_facts, facts) = watch::channel(facts::collect(&config).await);
    for reason in &facts.borrow().cannot_migrate {
        tracing::warn!("this node cannot migrate containers: {reason} (`fog-agent doctor` says what to do)");
    }
    let (peers, known_peers) = watch::channel(Vec::new());
    let (interval, known_interval) = watch::channel(Duration::from_secs_f64(config.sample_interval_s));
    let outbox = Arc::new(Outbox::new(config.buffer_samples));
    let links = Links::default();
    let docker_changed = Arc::new(Notify::new());
    let worker = engine.clone();
    let carry_out = carry_out_with(move |command, progress| {
        let engine = worker.clone();
        async move { engine.run(command, progress).await }
    });

    let tasks = TaskTracker::new();
    let until = shutdown.clone();
    let spawn = |work: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
        tasks.spawn(until.clone().run_until_cancelled_owned(work));
    };
    spawn(Box::pin(links.clone().run(config.transfer_listen, known_peers, known_interval.clone())));
    let sampling = Sampling { sampler, links, engine: engine.clone(), outbox: Arc::clone(&outbox) };
    spawn(Box::pin(sampling.run(known_interval, Arc::clone(&docker_changed))));
    spawn(Box::pin(refresh_facts(Arc::clone(&config), known_facts, docker_changed)));
    let resizer = resize_with(move |asked| {
        let docker = docker.clone();
        async move { resize(&docker, asked).await }
    });
    let looker = engine.clone();
    let examiner = examine_with(move |question| {
        let engine = looker.clone();
        async move { engine.examine(question).await }
    });
    let examined = Arc::clone(&config);
    let checker = check_with(move || {
        let config = Arc::clone(&examined);
        async move { doctor::examine(&config).await.checks }
    });
    let channel = Channel::new(Arc::clone(&config), outbox, facts, peers, interval, carry_out)
        .resizing_with(resizer)
        .examining_with(examiner)
        .checking_with(checker);
    spawn(Box::pin(engine.clone().ask_peers(channel.connected())));
    tasks.spawn(channel.run(shutdown.clone()));

    let ended = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        Err(source) = engine.serve_transfers() => {
            Err(StartError::Transfers { address: config.transfer_listen, source })
        }
        Err(source) = engine.serve_runtime() => Err(StartError::Runtime { directory: config.run_dir.clone(), source }),
    };
    shutdown.cancel();
    tasks.close();
    let _ = tokio::time::timeout(LAST_WORDS, tasks.wait()).await;
    tracing::info!("fog-agent ends; containers go on");
    ended
}

async fn resize(docker: &Docker, asked: Resize) -> Resized {
    let Resize { id, workload, container, cpus, memory_bytes } = asked;
    let error = match docker.set_limits(&container, cpus, memory_bytes).await {
        Ok(Some(())) => {
            tracing::info!(workload, ?cpus, ?memory_bytes, "the container has other limits");
            None
        }
        Ok(None) => Some(format!("container {container} is gone")),
        Err(error) => Some(format!("Docker did not change the limits: {error}")),
    };
    if let Some(error) = &error {
        tracing::warn!(workload, "{error}");
    }
    Resized { id, error }
}

fn engine_config(config: &Config) -> EngineConfig {
    EngineConfig {
        node: config.node.clone(),
        state_dir: config.state_dir.clone(),
        run_dir: config.run_dir.clone(),
        images_dir: config.run_dir.join("images"),
        transfer_listen: config.transfer_listen,
        docker_socket: config.docker_socket.clone(),
    }
}

/// What it takes to make a sample, and where it goes.
struct Sampling {
    sampler: Sampler,
    links: Links,
    engine: Engine,
    outbox: Arc<Outbox>,
}

impl Sampling {
    async fn run(mut self, mut interval: watch::Receiver<Duration>, docker_changed: Arc<Notify>) {
        let mut next = Instant::now() + *interval.borrow_and_update();
        let mut docker_answers = None;
        loop {
            tokio::select! {
                () = sleep_until(next) => {}
                changed = interval.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    next = Instant::now() + *interval.borrow_and_update();
                    continue;
                }
            }
            let bandwidth = self.engine.bandwidth();
            let links = self.links.samples(|node| bandwidth.get(node).copied());
            let sample = self.sampler.sample(links).await;
            let answers = sample.workloads.is_some();
            if docker_answers.replace(answers).is_some_and(|before| before != answers) {
                docker_changed.notify_one();
            }
            self.outbox.put(sample);
            // A sample that was late does not make the next ones early.
            next = (next + *interval.borrow()).max(Instant::now());
        }
    }
}

/// Facts change seldom: every now and then, and when Docker comes or goes, is often enough to look.
async fn refresh_facts(config: Arc<Config>, known: watch::Sender<NodeFacts>, docker_changed: Arc<Notify>) {
    loop {
        let _ = tokio::time::timeout(facts::REFRESH, docker_changed.notified()).await;
        let now = facts::collect(&config).await;
        known.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
    }
}
