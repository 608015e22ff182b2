//! The running agent: the parts, wired together.
//!
//! ```text
//! sampler --> outbox --> channel <==> orchestrator
//! links ----^              |
//!                       engine <==> other agents
//! ```

use std::sync::Arc;
use std::time::Duration;

use fog_api::agent::NodeFacts;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::channel::{CarryOut, Channel, Outbox};
use crate::config::Config;
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
}

/// Runs until `shutdown`, then leaves: containers and programs of a migration under way go on.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), StartError> {
    if config.orchestrator.is_none() {
        return Err(StartError::NoOrchestrator);
    }
    let _lock = Lock::take(&config.state_dir)?;
    let config = Arc::new(config);
    let sampler = Sampler::new(&config, Docker::new(&config.docker_socket)?);
    tracing::info!(node = config.node, scope = ?config.scope, "fog-agent {} starts", env!("CARGO_PKG_VERSION"));

    let (known_facts, facts) = watch::channel(facts::collect(&config).await);
    for reason in &facts.borrow().cannot_migrate {
        tracing::warn!("this node cannot migrate containers: {reason} (`fog-agent doctor` says what to do)");
    }
    let (peers, known_peers) = watch::channel(Vec::new());
    let (interval, known_interval) = watch::channel(Duration::from_secs_f64(config.sample_interval_s));
    let outbox = Arc::new(Outbox::new(config.buffer_samples));
    let links = Links::default();
    let carry_out = unfinished();
    let bandwidth = |_: &str| None;

    let tasks = TaskTracker::new();
    let until = shutdown.clone();
    let spawn = |work: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
        tasks.spawn(until.clone().run_until_cancelled_owned(work));
    };
    spawn(Box::pin(links.clone().run(config.transfer_listen, known_peers, known_interval.clone())));
    spawn(Box::pin(take_samples(sampler, links, Arc::clone(&outbox), known_interval, bandwidth)));
    spawn(Box::pin(refresh_facts(Arc::clone(&config), known_facts)));
    let channel = Channel::new(Arc::clone(&config), outbox, facts, peers, interval, carry_out);
    tasks.spawn(channel.run(shutdown.clone()));

    shutdown.cancelled().await;
    tasks.close();
    let _ = tokio::time::timeout(LAST_WORDS, tasks.wait()).await;
    tracing::info!("fog-agent ends; containers go on");
    Ok(())
}

async fn take_samples(
    mut sampler: Sampler,
    links: Links,
    outbox: Arc<Outbox>,
    mut interval: watch::Receiver<Duration>,
    bandwidth_mbps: impl Fn(&str) -> Option<f64>,
) {
    let mut next = Instant::now() + *interval.borrow_and_update();
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
        outbox.put(sampler.sample(links.samples(&bandwidth_mbps)).await);
        // A sample that was late does not make the next ones early.
        next = (next + *interval.borrow()).max(Instant::now());
    }
}

async fn refresh_facts(config: Arc<Config>, known: watch::Sender<NodeFacts>) {
    loop {
        tokio::time::sleep(facts::REFRESH).await;
        let now = facts::collect(&config).await;
        known.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
    }
}
fn unfinished() -> CarryOut {
    crate::channel::carry_out_with(|command, _| async move {
        fog_api::agent::Answer {
            key: command.key(),
            outcome: fog_api::agent::Outcome::Failed(fog_api::agent::Failure {
                kind: fog_api::agent::FailureKind::Refused,
                message: "This agent cannot migrate yet.".to_owned(),
                log: Vec::new(),
            }),
        }
    })
}
