//! Moves containers: carries out the orchestrator's commands, each once, and remembers what it did.
//!
//! ```text
//!              source                                    destination
//!   inspect    read, refuse                    reserve   create, volumes too, expect the stream
//!   ship       send files,                -->  restore   docker start => fog-runc, files into the mounted root,
//!              freeze, dump, stream                      criu, held: no task runs
//!                              === commit, at the orchestrator ===
//!   discard    remove it and its volumes       resume    SIGCONT
//!                                              settle    restart policy, clean up
//!   --- or, instead of the commit ---
//!   thaw       unpause, restart policy         abandon   remove the held container, volumes that were made
//! ```
//!
//! Steps before the commit only prepare: whatever fails there, `thaw` and `abandon` put everything back.
//! A frozen source waits for the orchestrator's word for as long as that takes.

mod abandon;
mod address;
mod bind_mounts;
mod budget;
mod connections;
mod console;
mod criu;
mod discard;
mod dump;
mod early;
mod failure;
mod fence;
mod files_in;
mod files_out;
mod freeze;
mod gate;
mod image;
mod images;
mod inspect;
mod lanes;
mod memory;
mod open_files;
mod peer;
mod recover;
mod reserve;
mod restore;
mod resume;
mod runtime_socket;
mod settle;
mod ship;
mod tasks;
mod thaw;
mod volumes;
mod watches;
mod world;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fog_api::agent::{
    Answer, Command, CommandKey, Examine, Examined, FailureKind, Finished, MemoryRound, Order, Outcome, Progress,
    Report, Role, Stage, Step,
};
use fog_api::preflight::Finding;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{mpsc, watch};
use tracing::Instrument;
use uuid::Uuid;

use crate::journal::{Journal, Record, create_private_folder};
use crate::runtime::Docker;
use crate::transfer::{Arrivals, Bandwidth};
use failure::{Cause, StepResult};
use fence::Fence;
pub(crate) use files_out::upper_folder;
use lanes::Lanes;
use restore::Restores;
use world::Host;
pub use world::{Done, Job, World};

/// Where things are on this node.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The node's name.
    pub node: String,
    /// Survives a reboot: journal and fence.
    pub state_dir: PathBuf,
    /// Does not survive a reboot: fog-runc's socket and restore folders. fog-runc expects `/run/fogshift`.
    pub run_dir: PathBuf,
    /// Memory images; must be on tmpfs.
    pub images_dir: PathBuf,
    /// Where other agents' streams come in.
    pub transfer_listen: SocketAddr,
    /// Docker's socket.
    pub docker_socket: PathBuf,
}

/// The engine could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A folder or file of the engine's own.
    #[error("cannot use {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The Docker client.
    #[error(transparent)]
    Docker(#[from] crate::runtime::DockerError),
}

impl EngineError {
    fn at(path: &Path) -> impl FnOnce(std::io::Error) -> EngineError {
        let path = path.to_owned();
        move |source| EngineError::File { path, source }
    }
}

/// Carries out commands. Cheap to clone; all clones are the same engine.
#[derive(Debug, Clone)]
pub struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: EngineConfig,
    docker: Docker,
    world: Arc<dyn World>,
    journal: Mutex<Journal>,
    fence: Mutex<Fence>,
    arrivals: Arc<Arrivals>,
    bandwidth: Arc<Bandwidth>,
    lanes: Lanes,
    restores: Restores,
    files: files_in::FilesIn,
    catches: connections::Catches,
    criu: tokio::sync::OnceCell<Option<crate::tools::Version>>,
    memory: memory::Movements,
    running: Mutex<HashMap<CommandKey, watch::Receiver<Option<Answer>>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine {
    /// Reads the journal and the fence. Needs no Docker yet.
    pub fn new(config: EngineConfig) -> Result<Engine, EngineError> {
        let docker = Docker::new(&config.docker_socket)?;
        Engine::in_world(config, docker.clone(), Arc::new(Host { docker }))
    }

    /// The same in another world than this machine.
    pub fn in_world(config: EngineConfig, docker: Docker, world: Arc<dyn World>) -> Result<Engine, EngineError> {
        for folder in [&config.state_dir, &config.run_dir, &config.images_dir, &config.run_dir.join("restore")] {
            create_private_folder(folder).map_err(EngineError::at(folder))?;
        }
        let (migrations, fence) = (config.state_dir.join("migrations"), config.state_dir.join("fence.json"));
        let bandwidth = Arc::new(Bandwidth::default());
        Ok(Engine(Arc::new(Inner {
            docker,
            world,
            journal: Mutex::new(Journal::open(&migrations).map_err(EngineError::at(&migrations))?),
            fence: Mutex::new(Fence::open(&fence).map_err(EngineError::at(&fence))?),
            arrivals: Arc::new(Arrivals::new(Arc::clone(&bandwidth))),
            bandwidth,
            lanes: Lanes::default(),
            restores: Restores::default(),
            files: files_in::FilesIn::default(),
            catches: connections::Catches::default(),
            criu: tokio::sync::OnceCell::new(),
            memory: memory::Movements::default(),
            running: Mutex::default(),
            config,
        })))
    }

    /// Megabits a second to each peer, learned from real transfers.
    pub fn bandwidth(&self) -> BTreeMap<String, f64> {
        self.0.bandwidth.snapshot()
    }

    /// Destination: nothing of the memory that travels after the commit is missing any more. Durable when this returns, and
    /// only then may the source hear of it: it removes its copy, and an agent that is started again must not take this one
    /// for lost.
    pub fn memory_is_whole(&self, migration: Uuid) -> std::io::Result<()> {
        let mut journal = lock(&self.0.journal);
        let Some(mut record) = journal.get(migration).cloned() else { return Ok(()) };
        (record.memory_pending, record.memory_came) = (false, true);
        journal.put(record)
    }

    /// Looks at what stands in the way of a migration, at one end. Touches nothing.
    pub async fn examine(&self, question: Examine) -> Examined {
        let looked = match &question.specification {
            None => inspect::preflight(&self.0, &question.workload, &question.bind_mounts).await,
            Some(specification) => reserve::preflight(&self.0, specification).await,
        };
        let examined = looked.unwrap_or_else(|cause| Examined {
            findings: vec![Finding::blocker("container", cause.message())],
            ..Examined::default()
        });
        Examined { id: question.id, ..examined }
    }

    /// Takes other agents' streams, for ever. Returns only when the address cannot be listened on.
    pub async fn serve_transfers(&self) -> std::io::Result<()> {
        let listener = tokio::net::TcpListener::bind(self.0.config.transfer_listen).await?;
        Arc::clone(&self.0.arrivals).serve(listener).await;
        Ok(())
    }

    /// Carries a command out, joins the one that is already running, or repeats the answer that was given before.
    pub async fn run(&self, command: Command, progress: mpsc::Sender<Progress>) -> Answer {
        let key = command.key();
        let mut answer = match self.begin(command, progress) {
            Begun::Answered(answer) => return answer,
            Begun::Running(receiver) => receiver,
        };
        let given = answer.wait_for(Option::is_some).await.ok().and_then(|answer| (*answer).clone());
        given.unwrap_or_else(|| {
            let lost = Cause::new(FailureKind::Node, "The agent lost track of the step; ask again.");
            Answer { key, outcome: Outcome::Failed(lost.into()) }
        })
    }

    fn begin(&self, command: Command, progress: mpsc::Sender<Progress>) -> Begun {
        let key = command.key();
        let mut running = lock(&self.0.running);
        if let Some(receiver) = running.get(&key) {
            return Begun::Running(receiver.clone());
        }
        if let Some(answer) = lock(&self.0.journal).get(key.migration).and_then(|record| record.answer(key)) {
            return Begun::Answered(answer.clone());
        }
        let (sender, receiver) = watch::channel(None);
        running.insert(key, receiver.clone());
        let engine = self.clone();
        let span =
            tracing::error_span!("step", migration = %key.migration, workload = command.workload, step = %key.step);
        // A task of its own: the step goes on even when whoever asked for it is gone.
        let steps = async move {
            let step = tokio::spawn({
                let engine = engine.clone();
                async move { engine.carry_out(command, progress).await }.in_current_span()
            });
            let result = step.await.unwrap_or_else(|error| {
                Err(Cause::new(FailureKind::Node, format!("The agent failed in this step: {error}.")))
            });
            let outcome = match result {
                Ok(report) => Outcome::Done(report),
                Err(cause) => Outcome::Failed(cause.into()),
            };
            let answer = Answer { key, outcome };
            engine.remember(&answer).await;
            sender.send_replace(Some(answer));
            lock(&engine.0.running).remove(&key);
        };
        tokio::spawn(steps.instrument(span));
        Begun::Running(receiver)
    }

    async fn carry_out(&self, command: Command, progress: mpsc::Sender<Progress>) -> StepResult {
        let step = command.order.step();
        self.pass_fence(&command).await?;
        let lane = self.0.lanes.enter(command.migration);
        let decided = self.0.record(command.migration).is_some_and(|record| record.is_a_persons_word(command.epoch));
        if decided || matches!(step, Step::Thaw | Step::Abandon) {
            lane.cancel.cancel();
        }
        let _turn = lane.turn.lock().await;
        if is_forward(step) {
            self.admit(&command, lane.cancel.is_cancelled())?;
        }
        tracing::info!(epoch = command.epoch, "begins");
        let reporter = Reporter { migration: command.migration, progress, finished: Mutex::default() };
        let job = Job { engine: self, command: &command, cancel: &lane.cancel, reporter: &reporter };
        let result = match &command.order {
            Order::Inspect { .. } => self.0.world.look(job).await.map_err(Cause::from),
            Order::Reserve { .. } => self.0.world.reserve(job).await.map_err(Cause::from),
            Order::Ship { .. } => self.0.world.ship(job).await.map_err(Cause::from),
            Order::Restore => self.0.world.restore(job).await.map_err(Cause::from),
            Order::Resume => resume::resume(&self.0, &command).await,
            Order::Discard => discard::discard(&self.0, &command, &lane.cancel).await,
            Order::Settle { discarded } => settle::settle(&self.0, &command, *discarded, &reporter).await,
            Order::Thaw => thaw::thaw(&self.0, &command).await,
            Order::Abandon => abandon::abandon(&self.0, &command).await,
        };
        match &result {
            Ok(_) => tracing::info!("done"),
            Err(cause) => tracing::warn!(
                kind = ?cause.kind(), log = ?cause.log(),
                "failed: {}", cause.message()
            ),
        }
        result
    }

    async fn pass_fence(&self, command: &Command) -> Result<(), Cause> {
        let (inner, workload) = (Arc::clone(&self.0), command.workload.clone());
        let (migration, epoch) = (command.migration, command.epoch);
        let abandons = matches!(command.order, Order::Abandon);
        let passed = blocking(move || lock(&inner.fence).pass(&workload, migration, epoch, abandons)).await?;
        match passed.map_err(|error| Cause::node("The epoch could not be written down", &error))? {
            Ok(()) => Ok(()),
            Err(seen) => Err(Cause::new(
                FailureKind::Stale,
                format!("Epoch {} of {} is over; this node has seen epoch {seen}.", command.epoch, command.workload),
            )),
        }
    }

    /// Forward steps are carried out once, and not after the migration was given up.
    fn admit(&self, command: &Command, cancelled: bool) -> Result<(), Cause> {
        let journal = lock(&self.0.journal);
        let record = journal.get(command.migration);
        let step = command.order.step();
        if cancelled || record.is_some_and(|record| record.closed) {
            return Err(Cause::cancelled());
        }
        if record.is_some_and(|record| record.begun.contains(&(step, command.epoch))) {
            return Err(Cause::new(
                FailureKind::Interrupted,
                "The agent was restarted in the middle of this step; roll the migration back.",
            ));
        }
        Ok(())
    }

    /// Stores an answer. Undoing and redoing are simply done again when they failed, so such a failure is not kept.
    async fn remember(&self, answer: &Answer) {
        let kept = answer.key.step != Step::Inspect
            && (is_forward(answer.key.step) || matches!(answer.outcome, Outcome::Done(_)));
        if !kept {
            return;
        }
        let stored = answer.clone();
        let kept = self.0.note_if_known(answer.key.migration, move |record| record.answers.push(stored)).await;
        if let Err(cause) = kept {
            tracing::error!("an answer could not be stored: {}", cause.message());
        }
        if lock(&self.0.journal).get(answer.key.migration).is_none_or(|record| record.closed) {
            self.0.lanes.leave(answer.key.migration);
        }
    }
}

enum Begun {
    Answered(Answer),
    Running(watch::Receiver<Option<Answer>>),
}

const fn is_forward(step: Step) -> bool {
    matches!(step, Step::Inspect | Step::Reserve | Step::Ship | Step::Restore)
}

impl Inner {
    /// This node's record of a migration.
    fn record(&self, migration: Uuid) -> Option<Record> {
        lock(&self.journal).get(migration).cloned()
    }

    /// Changes the record durably; makes one where there is none.
    async fn note(
        self: &Arc<Self>,
        command: &Command,
        role: Role,
        change: impl FnOnce(&mut Record) + Send + 'static,
    ) -> Result<Record, Cause> {
        let (inner, migration, workload) = (Arc::clone(self), command.migration, command.workload.clone());
        let noted = blocking(move || {
            let mut journal = lock(&inner.journal);
            let known = journal.get(migration).cloned();
            let mut record = known.unwrap_or_else(|| Record::new(migration, &workload, role));
            change(&mut record);
            journal.put(record.clone()).map(|()| record)
        });
        noted.await?.map_err(|error| Cause::node("The journal could not be written", &error))
    }

    async fn note_if_known(
        self: &Arc<Self>,
        migration: Uuid,
        change: impl FnOnce(&mut Record) + Send + 'static,
    ) -> Result<(), Cause> {
        let inner = Arc::clone(self);
        let noted = blocking(move || {
            let mut journal = lock(&inner.journal);
            let Some(mut record) = journal.get(migration).cloned() else { return Ok(()) };
            change(&mut record);
            journal.put(record)
        });
        noted.await?.map_err(|error| Cause::node("The journal could not be written", &error))
    }
}

/// Runs what waits for disks or processes where it delays nobody.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Cause> {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        // A runtime of one thread is a test's or the simulation's, where no other thread may change the order of things.
        return Ok(work());
    }
    let span = tracing::Span::current();
    tokio::task::spawn_blocking(move || span.in_scope(work))
        .await
        .map_err(|error| Cause::new(FailureKind::Node, format!("The agent failed: {error}.")))
}

/// Tells the orchestrator how far a step has come.
pub struct Reporter {
    migration: Uuid,
    progress: mpsc::Sender<Progress>,
    finished: Mutex<Finished>,
}

impl Reporter {
    /// Best effort: when nobody takes it up, it is lost.
    pub fn tell(&self, stage: Stage, bytes: u64, bytes_total: Option<u64>) {
        let finished = self.finished();
        drop(self.progress.try_send(Progress { migration: self.migration, stage, bytes, bytes_total, finished }));
    }

    /// A stage is over; `bytes` travelled in it, where that means something. Told with the next word.
    fn over(&self, stage: Stage, began: std::time::Instant, bytes: Option<u64>) {
        let mut finished = lock(&self.finished);
        finished.stages_ms.insert(stage, ms_since(began));
        finished.stages_bytes.extend(bytes.map(|bytes| (stage, bytes)));
    }

    /// Another round over the running container's memory is over.
    fn round(&self, round: MemoryRound) {
        lock(&self.finished).rounds.push(round);
    }

    /// What is over by now.
    fn finished(&self) -> Finished {
        lock(&self.finished).clone()
    }
}

/// Milliseconds since then.
fn ms_since(instant: std::time::Instant) -> f64 {
    instant.elapsed().as_secs_f64() * 1e3
}

/// A report with one stage's time.
fn staged(stage: Stage, ms: f64) -> Report {
    Report { stages_ms: BTreeMap::from([(stage, ms)]), ..Report::default() }
}
