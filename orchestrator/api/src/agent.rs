//! The agents' channel: one WebSocket that the agent dials (`GET /v1/agents/channel`), a JSON
//! message per text frame.
//!
//! ```text
//! agent                                   orchestrator
//!   | -- Hello ------------------------------> |
//!   | <------------------ Welcome | Refused -- |
//!   | -- Heartbeat{seq..} -------------------> |   kept and sent again until acknowledged
//!   | <-------------------------- Received --- |
//!   | <-------------------------- Command ---- |   repeated after every reconnect until answered
//!   | -- Progress* --------------------------> |   best effort
//!   | -- Answer -----------------------------> |   stored by the agent: a repeated command gets it again
//! ```
//!
//! A command is keyed `(migration, step, epoch)`. An agent carries a key out once, stores its
//! answer durably and gives that answer to every repetition. It refuses epochs below the highest
//! it has seen for the workload.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::doctor::Check;
use crate::migration::{Connections, LogLine, Strategy};
use crate::preflight::Finding;
pub use crate::sample::{LinkSample, Pressure, Sample, WorkloadSample};

/// The version of this channel. Both ends must speak the same.
pub const PROTOCOL: u32 = 1;

/// The path the agent dials.
pub const CHANNEL_PATH: &str = "/v1/agents/channel";
/// Where samples of many nodes are taken at once.
pub const SAMPLES_PATH: &str = "/v1/agents/samples";

/// What an agent says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum FromAgent {
    /// The first message of every connection.
    Hello(Hello),
    /// Samples since the last acknowledged one.
    Heartbeat(Heartbeat),
    /// How far a running step has come.
    Progress(Progress),
    /// What was logged about migrations. Best effort.
    Logged(Logged),
    /// The result of a command.
    Answer(Answer),
    /// What came of a [`Resize`].
    Resized(Resized),
    /// What a [`Checkup`] found.
    CheckedUp(CheckedUp),
    /// What an [`Examine`] found.
    Examined(Examined),
}

/// What the orchestrator says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ToAgent {
    /// The agent is known from now on.
    Welcome(Welcome),
    /// The agent is not let in; the orchestrator closes the connection after this.
    Refused {
        /// Why, and what to do about it.
        reason: String,
    },
    /// Samples up to and including this sequence number are stored.
    Received {
        /// Highest stored sequence number of this agent's boot.
        up_to: u64,
    },
    /// The other nodes, whenever that list changes. The agent measures its links to them.
    Peers {
        /// Everyone but the agent itself.
        peers: Vec<Peer>,
    },
    /// Carry out a step.
    Command(Command),
    /// Give a container other limits where it is.
    Resize(Resize),
    /// Look at the node.
    Checkup(Checkup),
    /// Look at what stands in the way of a migration.
    Examine(Examine),
}

/// Look at what stands in the way of a migration, at one end. Nothing is touched and nothing is journalled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Examine {
    /// Comes back with the answer.
    pub id: Uuid,
    /// The container's name.
    pub workload: String,
    /// The source's answer when the destination is asked; `None`: this is the source.
    pub specification: Option<Specification>,
    /// Source: folders of the host whose bind mounts move, each with everything below it.
    #[serde(default)]
    pub bind_mounts: Vec<String>,
}

/// What an [`Examine`] found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Examined {
    /// The request's.
    pub id: Uuid,
    /// Everything that was found.
    pub findings: Vec<Finding>,
    /// Source: what the destination is to look at; `None` when there is no such container.
    pub specification: Option<Specification>,
    /// Destination: what would become of established connections.
    pub connections: Option<Connections>,
}

/// Look at what stands in the way of giving and taking containers, as `fog-agent doctor` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkup {
    /// Comes back with the answer.
    pub id: Uuid,
}

/// What a [`Checkup`] found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedUp {
    /// The request's.
    pub id: Uuid,
    /// Every check.
    pub checks: Vec<Check>,
}

/// Give a container other limits (`docker update`). The limits are absolute, so a repetition does no harm: nothing is
/// journalled, and one whose answer is lost is asked for again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resize {
    /// Comes back with the answer.
    pub id: Uuid,
    /// The container's name.
    pub workload: String,
    /// Docker's id of the container that is meant: another one of the same name is left alone.
    pub container: String,
    /// The new CPU limit in cores; `None` leaves it.
    pub cpus: Option<f64>,
    /// The new memory limit; `None` leaves it.
    pub memory_bytes: Option<u64>,
}

/// What came of a [`Resize`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resized {
    /// The request's.
    pub id: Uuid,
    /// Why the container still has its old limits; `None` when it has the new ones.
    pub error: Option<String>,
}

/// Who the agent is and what its node can do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`] of the agent.
    pub protocol: u32,
    /// The node's name, unique in the cluster.
    pub node: String,
    /// The agent's version.
    pub agent_version: String,
    /// Changes with every start of the agent; sequence numbers count within it.
    pub boot: Uuid,
    /// `host:port` where other agents reach this one's transfer listener.
    pub transfer_address: String,
    /// What does not change between samples.
    pub facts: NodeFacts,
}

/// The node's fixed properties.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeFacts {
    /// Machine architecture as `uname -m` says it, for example `x86_64`.
    pub arch: String,
    /// Kernel release.
    pub kernel: String,
    /// Cores the node may use; less than the machine's where a quota confines it.
    pub cpus: f64,
    /// Relative speed of one core, 1 = reference.
    pub cpu_score: f64,
    /// Memory the node may use.
    pub memory_bytes: u64,
    /// Size of the disk that holds Docker's data, without what is kept for root; `None`: not known.
    #[serde(default)]
    pub disk_bytes: Option<u64>,
    /// What its CPU can do that not every one of its architecture can, as `/proc/cpuinfo` says it; empty: not known.
    #[serde(default)]
    pub cpu_features: Vec<String>,
    /// `v1`, `v2` or `hybrid`.
    pub cgroup: String,
    /// Docker's version, or `None` where no daemon answers.
    pub docker: Option<String>,
    /// CRIU's version.
    pub criu: Option<String>,
    /// runc's version.
    pub runc: Option<String>,
    /// Labels out of the agent's configuration (site, tier, power and so on).
    pub labels: BTreeMap<String, String>,
    /// Why this node can neither give nor take containers; empty when it can.
    pub cannot_migrate: Vec<String>,
}

/// The orchestrator's reply to [`Hello`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// Seconds between two samples that the orchestrator asks for.
    pub sample_interval_s: f64,
    /// The other nodes.
    pub peers: Vec<Peer>,
}

/// Another node, as an agent needs to know it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Peer {
    /// The node's name.
    pub node: String,
    /// `host:port` of its transfer listener.
    pub transfer_address: String,
    /// Its runc's version, where it is known: what the source leaves out of the images, the destination's runc must be
    /// able to do without.
    #[serde(default)]
    pub runc: Option<String>,
}

/// A batch of samples, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The samples, each with its sequence number.
    pub samples: Vec<Sample>,
}

/// `POST /v1/agents/samples`: samples of many nodes, with the orchestrator's token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampleBatch {
    /// One for each node.
    pub reports: Vec<SampleReport>,
}

/// A node's part of a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampleReport {
    /// The node; its agent has connected before.
    pub node: String,
    /// Its samples, oldest first. Their sequence numbers do not matter here.
    pub samples: Vec<Sample>,
}

/// The answer to a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SamplesStored {
    /// How many samples are stored.
    pub stored: u64,
}

/// Which end of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The node that has the container.
    Source,
    /// The node that is to have it.
    Destination,
}

/// Carry out one step of a migration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// The migration.
    pub migration: Uuid,
    /// The container's name.
    pub workload: String,
    /// The workload's epoch that this step belongs to. Steps before the commit carry the source's epoch, steps after it
    /// the destination's, which is one higher.
    pub epoch: u64,
    /// What to do.
    pub order: Order,
}

impl Command {
    /// The key under which the agent stores the answer.
    pub fn key(&self) -> CommandKey {
        CommandKey { migration: self.migration, step: self.order.step(), epoch: self.epoch }
    }
}

/// What makes two commands the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CommandKey {
    /// The migration.
    pub migration: Uuid,
    /// The step.
    pub step: Step,
    /// The workload's epoch.
    pub epoch: u64,
}

/// A step's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Source: read the configuration, refuse what cannot move.
    Inspect,
    /// Destination: create the container and wait for the stream.
    Reserve,
    /// Source: freeze, dump and ship.
    Ship,
    /// Destination: restore from the stream, held: no task runs.
    Restore,
    /// Destination: let the tasks run.
    Resume,
    /// Source: remove the frozen container and everything else of this migration.
    Discard,
    /// Destination: give the container its restart policy back and clean up.
    Settle,
    /// Source, rolling back: stop shipping, thaw, restore the restart policy.
    Thaw,
    /// Destination, rolling back: remove the held container and everything else of this migration.
    Abandon,
}

impl Step {
    /// The end that carries it out.
    pub const fn role(self) -> Role {
        match self {
            Step::Inspect | Step::Ship | Step::Discard | Step::Thaw => Role::Source,
            Step::Reserve | Step::Restore | Step::Resume | Step::Settle | Step::Abandon => Role::Destination,
        }
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Step::Inspect => "inspect",
            Step::Reserve => "reserve",
            Step::Ship => "ship",
            Step::Restore => "restore",
            Step::Resume => "resume",
            Step::Discard => "discard",
            Step::Settle => "settle",
            Step::Thaw => "thaw",
            Step::Abandon => "abandon",
        })
    }
}

/// A step with what it needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Order {
    /// See [`Step::Inspect`].
    Inspect {
        /// Folders of the host whose bind mounts move, each with everything below it: the policy's word.
        #[serde(default)]
        bind_mounts: Vec<String>,
    },
    /// See [`Step::Reserve`].
    Reserve {
        /// What to create; the source's own configuration.
        specification: Specification,
        /// Admits the source's stream and authenticates every byte of it.
        ticket: Ticket,
        /// The node that will ship.
        source: String,
    },
    /// See [`Step::Ship`].
    Ship {
        /// Where to ship to.
        destination: Peer,
        /// The same ticket that the destination was given.
        ticket: Ticket,
        /// Established connections go on at the destination: the container's address follows it.
        #[serde(default)]
        keep_connections: bool,
        /// How memory travels.
        #[serde(default)]
        memory: MemoryOrder,
        /// See [`Order::Inspect`].
        #[serde(default)]
        bind_mounts: Vec<String>,
    },
    /// See [`Step::Restore`].
    Restore,
    /// See [`Step::Resume`].
    Resume,
    /// See [`Step::Discard`].
    Discard,
    /// See [`Step::Settle`].
    Settle {
        /// The source's copy is removed: nobody there waits to hear that all of the memory has come.
        #[serde(default)]
        discarded: bool,
    },
    /// See [`Step::Thaw`].
    Thaw,
    /// See [`Step::Abandon`].
    Abandon,
}

impl Order {
    /// Its name.
    pub const fn step(&self) -> Step {
        match self {
            Order::Inspect { .. } => Step::Inspect,
            Order::Reserve { .. } => Step::Reserve,
            Order::Ship { .. } => Step::Ship,
            Order::Restore => Step::Restore,
            Order::Resume => Step::Resume,
            Order::Discard => Step::Discard,
            Order::Settle { .. } => Step::Settle,
            Order::Thaw => Step::Thaw,
            Order::Abandon => Step::Abandon,
        }
    }
}

/// How memory is to travel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryOrder {
    /// Never `auto`, which means stop-and-copy here.
    pub strategy: Strategy,
    /// The longest freeze that the workload bears: a move that would take longer is refused before it.
    pub max_downtime_ms: Option<u64>,
    /// The most that memory may take of the link.
    pub cap_mbps: Option<f64>,
}

/// What became of memory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct MemoryReport {
    /// Rounds while the container ran, in their order.
    pub rounds: Vec<MemoryRound>,
    /// Memory that was to be accounted for when the container was frozen.
    pub frozen_total_bytes: u64,
    /// Of it, content that had to be sent after the freeze.
    pub frozen_content_bytes: u64,
    /// Bytes that went over the network for it.
    pub frozen_sent_bytes: u64,
    /// From the end of the dump until nothing was missing at the destination.
    pub drain_ms: Option<f64>,
    /// How much memory the container wrote a second, by the last two rounds; `None` before the second.
    pub dirty_bytes_per_s: Option<u64>,
}

impl MemoryReport {
    /// Bytes that went over the network for memory.
    pub fn sent_bytes(&self) -> u64 {
        self.rounds.iter().map(|round| round.sent_bytes).sum::<u64>() + self.frozen_sent_bytes
    }
}

/// One round over a running container's memory.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemoryRound {
    /// Memory that had changed since the round before, or all of it.
    pub content_bytes: u64,
    /// Bytes that went over the network for it.
    pub sent_bytes: u64,
    /// How long it took.
    pub took_ms: f64,
}

/// Memory written a second: what a round found changed, over the time since the round before looked. `None` before the
/// second round.
pub fn dirty_bytes_per_s(rounds: &[MemoryRound]) -> Option<u64> {
    let [.., before, last] = rounds else { return None };
    // A page is looked at once in each round, at about the same part of it.
    let apart_s = (before.took_ms + last.took_ms) / 2e3;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a rate")]
    (apart_s > 0.0).then(|| (last.content_bytes as f64 / apart_s) as u64)
}

/// A migration's secret: 32 random bytes in hexadecimal, known to the orchestrator and both agents.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ticket(pub String);

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ticket(secret)")
    }
}

/// Everything needed to create the container again. Only agents look inside `inspect`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Specification {
    /// The container's name.
    pub name: String,
    /// The image's id (`sha256:…`) on the source.
    pub image: String,
    /// `docker inspect` of the source's container.
    pub inspect: serde_json::Value,
}

/// How far a running step has come. Best effort: a lost one does no harm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The migration.
    pub migration: Uuid,
    /// What is going on.
    pub stage: Stage,
    /// Bytes of this stage so far.
    pub bytes: u64,
    /// Bytes of this stage in all, once known.
    pub bytes_total: Option<u64>,
    /// What the step has finished by now: all of it, so that a report that is lost does no harm.
    #[serde(default)]
    pub finished: Finished,
}

/// What a step that still runs has finished by now.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Finished {
    /// How long each stage took, in milliseconds.
    pub stages_ms: BTreeMap<Stage, f64>,
    /// Bytes that travelled in each stage.
    pub stages_bytes: BTreeMap<Stage, u64>,
    /// Rounds over the running container's memory, in their order.
    pub rounds: Vec<MemoryRound>,
}

/// Lines of an agent's log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Logged {
    /// Each with the migration that it is about, oldest first.
    pub lines: Vec<(Uuid, LogLine)>,
}

/// The parts of a migration that take time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Files travel while the container runs: its image, its volumes, its writable layer.
    Sync,
    /// Memory travels while the container runs.
    PreCopy,
    /// Every task stops.
    Freeze,
    /// CRIU writes the images.
    Dump,
    /// The images travel.
    Ship,
    /// The destination checks every byte against the ticket.
    Verify,
    /// CRIU rebuilds the tasks.
    Restore,
    /// Memory fills the restored tasks; after the commit while they run.
    Drain,
    /// The tasks run again.
    Resume,
}

/// The result of a command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Which command.
    pub key: CommandKey,
    /// What came of it.
    pub outcome: Outcome,
}

/// Done or failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// The step is done; every step reports what it measured.
    Done(Report),
    /// The step is not done and will not be; what it had begun is undone or is left for `thaw` and `abandon`.
    Failed(Failure),
}

/// What a step measured. Fields that a step does not know stay empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// `inspect`: the container's specification.
    pub specification: Option<Specification>,
    /// `reserve`: the id of the new container.
    pub container: Option<String>,
    /// `reserve`: what becomes of established connections.
    pub connections: Option<Connections>,
    /// How long each stage took here, in milliseconds.
    pub stages_ms: BTreeMap<Stage, f64>,
    /// Bytes that travelled in each stage.
    pub stages_bytes: BTreeMap<Stage, u64>,
    /// `ship`: size of CRIU's images.
    pub checkpoint_bytes: Option<u64>,
    /// `ship`: bytes that went over the network.
    pub sent_bytes: Option<u64>,
    /// `ship`: how long the container had been frozen when this answer left.
    pub frozen_ms: Option<f64>,
    /// `ship`, and `discard` where memory travelled after the commit.
    pub memory: Option<MemoryReport>,
    /// `thaw`: the source's container was seen running.
    pub seen_running: Option<bool>,
}

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure, for programs.
    pub kind: FailureKind,
    /// One sentence for people: what failed, why, what to do.
    pub message: String,
    /// The last lines of the log that shows it, if there is one.
    #[serde(default)]
    pub log: Vec<String>,
}

/// Kinds of failure that the orchestrator tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The workload or the node cannot do this; nothing was touched.
    Refused,
    /// The container is not there (any more).
    Gone,
    /// The command's epoch is over.
    Stale,
    /// The agent was restarted in the middle of the step.
    Interrupted,
    /// The stream between the agents broke or did not verify.
    Transfer,
    /// CRIU, runc or Docker said no.
    Runtime,
    /// Memory that the running container needs can never come.
    Lost,
    /// A `thaw` or `abandon` overtook the step.
    Cancelled,
    /// Anything else on this node: disk, memory, permissions.
    Node,
}
