//! The channel to the orchestrator: one WebSocket that the agent dials and dials again.
//!
//! ```text
//!            +--- back-off 0.2 s .. 5 s, 30 s when refused ---+
//!            v                                                |
//!   dial -> Hello -> Welcome -> samples, commands, answers -> lost
//! ```
//!
//! Nothing the node does depends on the channel being up. Samples wait in the [`Reporter`], steps
//! under way go on, and an answer that finds no connection is given again when the orchestrator
//! repeats the command.

mod commands;
mod session;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use fog_api::agent::{NodeFacts, Peer, Sample};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::commands::Commands;
pub use self::commands::{CarryOut, Checker, Examiner, Resizer, carry_out_with, check_with, examine_with, resize_with};
use self::session::Ended;
pub use self::session::{Dial, Tcp, Wire};
use crate::config::Config;
use crate::reporter::Reporter;

/// The first wait after a connection is lost.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// The longest wait while the orchestrator is away.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A refusal needs a person; asking faster does not help.
const REFUSED_WAIT: Duration = Duration::from_secs(30);

/// A connection that lasted this long was a good one: the waits begin anew.
const GOOD_CONNECTION: Duration = Duration::from_secs(5);

/// While the orchestrator stays away for the same reason, the log says so this often.
const REMIND: Duration = Duration::from_secs(60);

/// Samples on their way, shared between who takes them and who sends them.
#[derive(Debug)]
pub struct Outbox {
    reporter: Mutex<Reporter>,
    filled: Notify,
}

impl Outbox {
    /// Keeps at most `capacity` samples.
    pub fn new(capacity: usize) -> Self {
        Self { reporter: Mutex::new(Reporter::new(capacity)), filled: Notify::new() }
    }

    /// Hands a sample over.
    pub fn put(&self, sample: Sample) {
        self.locked(|reporter| reporter.keep(sample));
        self.filled.notify_one();
    }

    fn locked<T>(&self, work: impl FnOnce(&mut Reporter) -> T) -> T {
        work(&mut self.reporter.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The agent's end of the channel.
#[derive(Debug)]
pub struct Channel {
    config: Arc<Config>,
    boot: Uuid,
    outbox: Arc<Outbox>,
    facts: watch::Receiver<NodeFacts>,
    peers: watch::Sender<Vec<Peer>>,
    interval: watch::Sender<Duration>,
    connected: watch::Sender<bool>,
    commands: Commands,
    dial: Arc<dyn Dial>,
}

impl Channel {
    /// A channel that publishes what the orchestrator says through `peers` and `interval`.
    pub fn new(
        config: Arc<Config>,
        outbox: Arc<Outbox>,
        facts: watch::Receiver<NodeFacts>,
        peers: watch::Sender<Vec<Peer>>,
        interval: watch::Sender<Duration>,
        carry_out: CarryOut,
    ) -> Self {
        let (boot, commands, dial) = (Uuid::new_v4(), Commands::new(carry_out), Arc::new(Tcp));
        let connected = watch::Sender::new(false);
        Self { config, boot, outbox, facts, peers, interval, connected, commands, dial }
    }

    /// Whether the orchestrator is there.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.connected.subscribe()
    }

    /// Who looks at what stands in the way of a migration.
    #[must_use]
    pub fn examining_with(mut self, examiner: Examiner) -> Self {
        self.commands.examiner = examiner;
        self
    }

    /// Who changes containers' limits; without one the agent says that it can't.
    #[must_use]
    pub fn resizing_with(mut self, resizer: Resizer) -> Self {
        self.commands.resizer = resizer;
        self
    }

    /// Another network than this machine's.
    #[must_use]
    pub fn dialling_with(mut self, dial: Arc<dyn Dial>) -> Self {
        self.dial = dial;
        self
    }

    /// Who looks at the node.
    #[must_use]
    pub fn checking_with(mut self, checker: Checker) -> Self {
        self.commands.checker = checker;
        self
    }

    /// Keeps the channel up until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut waits = waits();
        let mut last_said: Option<(String, Instant)> = None;
        loop {
            let begun = Instant::now();
            let ended = tokio::select! {
                ended = session::run(&mut self) => ended,
                () = shutdown.cancelled() => return,
            };
            self.connected.send_replace(false);
            if begun.elapsed() >= GOOD_CONNECTION {
                waits = self::waits();
            }
            let wait = match &ended {
                Ended::FactsChanged => Duration::ZERO,
                Ended::Refused(_) => REFUSED_WAIT,
                Ended::Lost(_) => waits.next().unwrap_or(LONGEST_WAIT),
            };
            let message = ended.to_string();
            let repeated = last_said.as_ref().is_some_and(|(said, at)| *said == message && at.elapsed() < REMIND);
            if !repeated {
                match &ended {
                    Ended::FactsChanged => tracing::info!("{message}"),
                    Ended::Refused(_) => tracing::error!(retry_in_s = wait.as_secs(), "{message}"),
                    Ended::Lost(_) => tracing::warn!("{message}; samples are kept, containers go on"),
                }
                last_said = Some((message, Instant::now()));
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }
}

/// Growing waits with jitter, so that a cluster does not return all at once after a restart.
fn waits() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::new()
        .with_min_delay(FIRST_WAIT)
        .with_max_delay(LONGEST_WAIT)
        .with_factor(2.0)
        .without_max_times()
        .with_jitter()
        .with_jitter_seed(getrandom::u64().unwrap_or_default())
        .build()
        .map(|wait| wait.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_differ_between_agents() {
        let (one, other): (Vec<Duration>, Vec<Duration>) = (waits().take(12).collect(), waits().take(12).collect());
        assert!(one[0] >= FIRST_WAIT && one[0] <= FIRST_WAIT * 2, "{one:?}");
        assert!(one.iter().all(|&wait| wait <= LONGEST_WAIT), "{one:?}");
        assert_eq!(one[11], LONGEST_WAIT);
        assert_ne!(one[..4], other[..4]);
    }
}
