//! Carries out what fog-core's migration state machine says: one task a migration.
//!
//! The order is always: take an event, store the state that it leads to, then act. A restart reads the state and acts on
//! it again, which every step allows. Only the commit is stored and acted on at once: its transaction holds both.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fog_api::agent::{Answer, Command as AgentCommand, MemoryOrder, Order, Outcome, Progress, Report, Stage, ToAgent};
use fog_api::event::Event as PublicEvent;
use fog_api::migration::{LogLine, Migration as Record, PhaseEntry, StageProgress};
use fog_core::migration::{Command, Event, Phase, Resolve, ResolveRefusal, Role, Step};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::Instrument;
use uuid::Uuid;

use crate::app::App;
use crate::clock;
use crate::lines;
use crate::pace::Pace;
use crate::record;
use crate::store::{NewMigration, StoreError, StoredMigration};

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Lines of its agents that are kept of a migration.
const MOST_LINES: usize = 2000;
/// So often a commit whose transaction fails is tried before it is given up and rolled back, if the row can be read.
const COMMIT_TRIES: u32 = 5;

/// What reaches a running migration.
#[derive(Debug)]
pub enum Input {
    /// An agent answered.
    Answer {
        /// The agent's node.
        node: String,
        /// Its answer.
        answer: Answer,
    },
    /// An agent logged something.
    Logged {
        /// The agent's node.
        node: String,
        /// What.
        line: LogLine,
    },
    /// An agent is on its way.
    Progress(Progress),
    /// Somebody wants it to stop.
    Cancel {
        /// Who.
        by: String,
    },
    /// Somebody says which end keeps the workload.
    Resolve {
        /// Which, and who.
        word: Resolve,
        /// Told once what it leads to is stored.
        taken: oneshot::Sender<()>,
    },
}

/// The running migrations.
#[derive(Default)]
pub struct Drivers {
    inputs: Mutex<BTreeMap<Uuid, mpsc::UnboundedSender<Input>>>,
    records: Mutex<BTreeMap<Uuid, Record>>,
    tasks: TaskTracker,
}

impl Drivers {
    fn inputs(&self) -> std::sync::MutexGuard<'_, BTreeMap<Uuid, mpsc::UnboundedSender<Input>>> {
        self.inputs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands an input to a migration; `false`: it is not running.
    pub fn give(&self, migration: Uuid, input: Input) -> bool {
        self.inputs().get(&migration).is_some_and(|inputs| inputs.send(input).is_ok())
    }

    /// Where the running migrations stand.
    pub fn phases(&self) -> Vec<fog_api::migration::Phase> {
        self.records().values().map(|record| record.phase).collect()
    }

    /// The record of a migration with what is told and not stored: how far the running stage has come.
    pub fn live(&self, stored: Record) -> Record {
        // What is stored counts where the two differ.
        self.records().get(&stored.id).filter(|live| live.phase == stored.phase).cloned().unwrap_or(stored)
    }

    fn records(&self) -> std::sync::MutexGuard<'_, BTreeMap<Uuid, Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stands(&self, record: &Record) {
        self.records().insert(record.id, record.clone());
    }

    /// Waits until every task has ended, after the shutdown was cancelled.
    pub async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Starts a migration that was just written down.
pub fn start(app: &App, new: NewMigration) {
    let stored = StoredMigration {
        record: new.record,
        state: fog_core::migration::Migration::default(),
        epoch: new.epoch,
        ticket: Some(new.ticket),
        specification: None,
    };
    spawn(app, stored);
}

/// Why a person's word was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// No such migration.
    #[error("the migration is not known")]
    Unknown,
    /// It makes no sense there.
    #[error("{0}")]
    Refused(ResolveRefusal, fog_api::migration::Phase),
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes a person's word on which end keeps a workload. Returns the record and whether anything is done about it: if not, it is
/// so or under way already, or was only asked about.
pub async fn resolve(
    app: &App,
    id: Uuid,
    word: Resolve,
    dry_run: bool,
) -> Result<(fog_api::migration::Migration, bool), ResolveError> {
    let told = || {
        let (by, keep, gone) = (&word.by, word.keep, word.destination_is_gone);
        tracing::warn!(migration = %id, by, ?keep, gone, "a person decides which end keeps the workload");
    };
    loop {
        let stored = app.store.migration(id).await?.ok_or(ResolveError::Unknown)?;
        let needed = stored.state.resolvable(word.keep, word.destination_is_gone);
        let needed = needed.map_err(|why| ResolveError::Refused(why, stored.record.phase))?;
        if dry_run || !needed {
            return Ok((stored.record, false));
        }
        let running = app.drivers.inputs().get(&id).cloned();
        if let Some(driver) = running {
            if stored.state.is_finished() {
                driver.closed().await; // it has stored its last state and ends
                continue;
            }
            let (taken, is_taken) = oneshot::channel();
            if driver.send(Input::Resolve { word: word.clone(), taken }).is_ok() && is_taken.await.is_ok() {
                told();
                let stored = app.store.migration(id).await?.ok_or(ResolveError::Unknown)?;
                return Ok((stored.record, true));
            }
            continue; // it ended meanwhile
        }
        // It was over: it goes on from here, if nothing else of this workload is under way.
        let before = stored.state.clone();
        let mut driver = Driver::new(app, stored);
        driver.enter(before.clone().step(Event::Resolved(word.clone())).0);
        app.store.reopen_migration(&before, &driver.migration, clock::now()).await?;
        told();
        app.fleet().begun(&driver.migration.record);
        driver.after_change();
        let record = driver.migration.record.clone();
        spawn(app, driver.migration);
        return Ok((record, true));
    }
}

/// Goes on with every unfinished migration after a start.
pub async fn resume_all(app: &App) -> Result<(), crate::store::StoreError> {
    for stored in app.store.unfinished_migrations().await? {
        tracing::info!(migration = %stored.record.id, phase = %stored.record.phase, workload = stored.record.workload, "going on with a migration");
        if !stored.state.phase.is_over() {
            app.fleet().begun(&stored.record);
        }
        spawn(app, stored);
    }
    Ok(())
}

fn spawn(app: &App, stored: StoredMigration) {
    let (sender, mut inputs) = mpsc::unbounded_channel();
    let id = stored.record.id;
    app.drivers.inputs().insert(id, sender);
    let tasks = app.drivers.tasks.clone();
    let driver = Driver::new(app, stored);
    tasks.spawn(async move {
        let app = driver.app.clone();
        let span = tracing::error_span!("migration", migration = %id, workload = driver.migration.record.workload);
        driver.run(&mut inputs).instrument(span).await;
        app.drivers.inputs().remove(&id);
        app.drivers.records().remove(&id);
        drop(inputs); // last: whoever waits for it finds nothing of this task any more
    });
}

struct Driver {
    app: App,
    migration: StoredMigration,
    /// Steps that failed and are ordered again then.
    again: BTreeMap<Step, Instant>,
    pauses: BTreeMap<Step, Duration>,
    pace: Pace,
    /// Lines that its agents have logged.
    lines: usize,
    /// When something last moved.
    active: Instant,
}

impl Driver {
    fn new(app: &App, migration: StoredMigration) -> Self {
        let (again, pauses) = (BTreeMap::new(), BTreeMap::new());
        Self { app: app.clone(), migration, again, pauses, pace: Pace::default(), lines: 0, active: Instant::now() }
    }

    async fn run(mut self, inputs: &mut mpsc::UnboundedReceiver<Input>) {
        let mut arrivals = self.app.agents.arrivals();
        let shutdown = self.app.shutdown.clone();
        if self.migration.state == fog_core::migration::Migration::default() {
            self.happened(Event::Begin).await;
        } else {
            let commands = self.migration.state.resume();
            self.act(commands).await;
        }
        while !self.migration.state.is_finished() && !shutdown.is_cancelled() {
            let stall = self.active + Duration::from_secs(self.app.config.stall_timeout_s.into());
            let next = self.again.values().copied().min();
            tokio::select! {
                input = inputs.recv() => match input {
                    Some(input) => self.input(input).await,
                    None => return,
                },
                arrival = arrivals.recv() => match arrival {
                    Ok(node) => self.order_outstanding(Some(&node)),
                    Err(RecvError::Lagged(_)) => self.order_outstanding(None),
                    Err(RecvError::Closed) => return,
                },
                () = tokio::time::sleep_until(next.unwrap_or(stall)), if next.is_some() => self.order_due(),
                () = tokio::time::sleep_until(stall), if self.can_stall() => {
                    let message = self.what_stalled();
                    self.happened(Event::Stalled { message }).await;
                }
                () = shutdown.cancelled() => return,
            }
        }
    }

    fn can_stall(&self) -> bool {
        matches!(self.migration.state.phase, Phase::Inspecting | Phase::Reserving | Phase::Moving)
    }

    fn node(&self, role: Role) -> &str {
        match role {
            Role::Source => &self.migration.record.source,
            Role::Destination => &self.migration.record.destination,
        }
    }

    fn what_stalled(&self) -> String {
        let waited: Vec<String> = self
            .migration
            .state
            .outstanding
            .iter()
            .map(|step| {
                let node = self.node(step.role());
                let connected = self.app.agents.boot(node).is_some();
                let why = if connected { "" } else { " (its agent is not connected)" };
                format!("{} on {node}{why}", record::step(*step))
            })
            .collect();
        format!("Nothing moved for {} s while waiting for {}.", self.app.config.stall_timeout_s, waited.join(" and "))
    }

    async fn input(&mut self, input: Input) {
        match input {
            Input::Answer { node, answer } => self.answer(&node, answer).await,
            Input::Progress(progress) => self.progress(progress).await,
            Input::Logged { node, line } => {
                let record = &self.migration.record;
                // Nobody fills the log of a migration, and nobody writes into another's.
                if (node == record.source || node == record.destination) && self.lines < MOST_LINES {
                    self.lines += 1;
                    lines::collect(record.id, LogLine { node: Some(node), ..line });
                }
            }
            Input::Cancel { by } => self.happened(Event::Cancelled { by }).await,
            Input::Resolve { word, taken } => {
                if self.migration.state.resolvable(word.keep, word.destination_is_gone) == Ok(true) {
                    self.again.clear(); // what was to be repeated belongs to the past
                    self.pauses.clear();
                }
                self.happened(Event::Resolved(word)).await;
                let _ = taken.send(());
            }
        }
    }

    async fn progress(&mut self, progress: Progress) {
        self.active = Instant::now();
        let (rate, eta_s) = self.pace.observe(&progress, self.active);
        let record = &mut self.migration.record;
        let round = progress.finished.rounds.len() as u32 + 1;
        let now = StageProgress {
            stage: progress.stage,
            bytes: progress.bytes,
            bytes_total: progress.bytes_total,
            remaining_bytes: progress.bytes_total.map(|total| total.saturating_sub(progress.bytes)),
            round: (progress.stage == Stage::PreCopy).then_some(round),
            rate_bytes_per_s: rate,
            eta_s,
        };
        // The destination verifies what the source still sends: one line of it is enough.
        let sending = record
            .progress
            .as_ref()
            .is_some_and(|shown| shown.stage < Stage::Verify && shown.remaining_bytes.is_none_or(|bytes| bytes > 0));
        if now.stage != Stage::Verify || !sending {
            record.progress = Some(now);
        }
        if !record.take_up(progress.finished) {
            return self.tell();
        }
        // A round is history. Nothing rests on it, so nothing waits until a store that is out of order takes it.
        if let Err(error) = self.app.store.save_migration(&self.migration, clock::now()).await {
            tracing::warn!(migration = %self.migration.record.id, "cannot store a round: {error}");
            return self.tell();
        }
        self.app.drivers.stands(&self.migration.record);
    }

    async fn answer(&mut self, node: &str, answer: Answer) {
        let step = record::answered_step(answer.key.step);
        if answer.key.epoch != self.epoch(step) || node != self.node(step.role()) {
            return;
        }
        let awaited = self.migration.state.outstanding.contains(&step);
        self.active = Instant::now();
        self.again.remove(&step);
        let outcome = match answer.outcome {
            Outcome::Done(report) => {
                if awaited {
                    tracing::info!(node, step = %record::step(step), "done");
                    self.measured(step, report);
                }
                Ok(())
            }
            Outcome::Failed(failure) => {
                tracing::warn!(node, step = %record::step(step), kind = ?failure.kind, "failed: {}", failure.message);
                Err(record::failure(failure))
            }
        };
        self.happened(Event::Answered { step, outcome }).await;
    }

    fn measured(&mut self, step: Step, report: Report) {
        let record = &mut self.migration.record;
        let now = clock::now();
        record.answered.insert(record::step(step), now);
        record.stages_ms.extend(report.stages_ms);
        record.stages_bytes.extend(report.stages_bytes);
        record.connections = report.connections.or(record.connections.take());
        record.checkpoint_bytes = report.checkpoint_bytes.or(record.checkpoint_bytes);
        record.sent_bytes = report.sent_bytes.or(record.sent_bytes);
        record.remember(report.memory);
        if let Some(specification) = report.specification {
            self.migration.specification = Some(specification);
        }
        // Each part is measured by one clock: the source's until its answer left, ours from then on.
        if let Some(frozen_ms) = report.frozen_ms {
            record.downtime_ms = Some(frozen_ms);
            record.frozen_at = now.checked_sub(std::time::Duration::from_secs_f64(frozen_ms.max(0.0) / 1e3)).ok();
        }
        let shipped = record.answered.get(&record::step(Step::Ship)).copied();
        if let (Step::Resume, Some(shipped), Some(frozen_ms)) = (step, shipped, record.downtime_ms) {
            record.downtime_ms = Some(frozen_ms + now.duration_since(shipped).as_millis_f64());
        }
    }

    /// Takes an event: stores what it leads to, then acts.
    async fn happened(&mut self, event: Event) {
        let (state, commands) = self.migration.state.clone().step(event);
        if state == self.migration.state && commands.is_empty() {
            return;
        }
        self.enter(state);
        if self.save().await {
            self.after_change();
            self.act(commands).await;
        }
    }

    fn enter(&mut self, state: fog_core::migration::Migration) {
        let record = &mut self.migration.record;
        let now = clock::now();
        if state.phase != self.migration.state.phase {
            record.phase = record::phase(state.phase);
            record.phases.push(PhaseEntry { phase: record.phase, at: now });
            record.progress = None;
            self.active = Instant::now();
        }
        record.cause = state.cause.as_ref().map(|cause| record::cause(cause, &record.source, &record.destination));
        record.resolution =
            state.resolution.as_ref().map(|word| record::resolution(word, record.resolution.as_ref(), now));
        if state.phase.is_over() && record.finished_at.is_none() {
            record.finished_at = Some(now);
        }
        if !state.phase.is_over() {
            record.finished_at = None; // a person's word took it up again
        }
        if matches!(state.phase, Phase::RolledBack | Phase::RollingBack) {
            record.downtime_ms = None; // that of a move that did not take place
        }
        if state.phase.is_over() && !self.migration.state.phase.is_over() {
            self.app.metrics.ended(record);
        }
        self.migration.state = state;
    }

    /// Nothing is done before it is stored, so this waits until the store takes it. `false`: the service ends before.
    async fn save(&self) -> bool {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.app.store.save_migration(&self.migration, clock::now()).await {
                Ok(()) => return true,
                Err(error) => {
                    tracing::error!("cannot store the migration, it waits: {error}")
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                () = self.app.shutdown.cancelled() => return false,
            }
        }
    }

    fn after_change(&self) {
        let record = &self.migration.record;
        if record.phase.is_over() {
            self.app.fleet().ended(record);
            let downtime_ms = record.downtime_ms;
            match &record.cause {
                None => {
                    tracing::info!(downtime_ms, "{}", record.phase)
                }
                Some(cause) => {
                    tracing::warn!("{}: {}", record.phase, cause.message)
                }
            }
        }
        self.app.drivers.stands(record); // the store has told everybody
    }

    /// In between: what is not stored.
    fn tell(&self) {
        self.app.drivers.stands(&self.migration.record);
        self.app.events.tell(PublicEvent::Migration { migration: self.migration.record.clone() });
    }

    async fn act(&mut self, commands: Vec<Command>) {
        let mut commands = VecDeque::from(commands);
        while let Some(command) = commands.pop_front() {
            match command {
                Command::Order(step) => self.order(step),
                Command::OrderAgain(step) => {
                    let pause = self.pauses.entry(step).or_insert(FIRST_PAUSE);
                    self.again.insert(step, Instant::now() + *pause);
                    *pause = (*pause * 2).min(LONGEST_PAUSE);
                }
                Command::Commit => commands.extend(self.commit().await),
            }
        }
    }

    /// Returns what to do next: the transaction stores the state behind the commit together with the ownership.
    async fn commit(&mut self) -> Vec<Command> {
        let before = self.migration.clone();
        let mut attempt: u32 = 0;
        loop {
            attempt += 1;
            let (state, commands) = before.state.clone().step(Event::Committed);
            self.enter(state);
            let now = clock::now();
            match self.app.store.commit_migration(&self.migration, now).await {
                Ok(true) => {
                    let owner = self.migration.owner_after();
                    self.app.fleet().committed(&self.migration.record, owner, self.migration.epoch_after(), now);
                    self.after_change();
                    return commands;
                }
                Ok(false) => {
                    self.migration = before;
                    let message = "The workload changed its owner while it was being moved.".to_owned();
                    return self.refuse_commit(message).await;
                }
                Err(error) => {
                    self.migration = before.clone();
                    tracing::error!(attempt, "the commit failed: {error}");
                    // It may have taken place although its reply was lost, and a rollback would then let the container
                    // run twice. So it is only given up when the row says that it did not.
                    let stored = self.app.store.migration(before.record.id).await;
                    let pending = matches!(&stored, Ok(Some(stored)) if !stored.state.is_owned());
                    if attempt >= COMMIT_TRIES && pending {
                        let message = format!("The database did not take the commit in {attempt} tries: {error}.");
                        return self.refuse_commit(message).await;
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(FIRST_PAUSE) => {}
                () = self.app.shutdown.cancelled() => return Vec::new(),
            }
        }
    }

    async fn refuse_commit(&mut self, message: String) -> Vec<Command> {
        let (state, commands) = self.migration.state.clone().step(Event::CommitRefused { message });
        self.enter(state);
        if !self.save().await {
            return Vec::new();
        }
        self.after_change();
        commands
    }

    fn epoch(&self, step: Step) -> u64 {
        self.migration.epoch + self.migration.state.epochs_on(step)
    }

    fn order_due(&mut self) {
        let now = Instant::now();
        let due: Vec<Step> = self.again.iter().filter(|(_, at)| **at <= now).map(|(step, _)| *step).collect();
        for step in due {
            self.again.remove(&step);
            self.order(step);
        }
    }

    fn order_outstanding(&mut self, node: Option<&str>) {
        for step in self.migration.state.outstanding.clone() {
            if node.is_none_or(|node| node == self.node(step.role())) {
                self.order(step);
            }
        }
    }

    /// Sends a step to its agent. If it does not arrive, it is sent again when the agent is there.
    fn order(&self, step: Step) {
        let record = &self.migration.record;
        let Some(order) = self.what(step) else {
            tracing::error!(step = %record::step(step), "the step cannot be ordered: its specification or ticket is missing");
            return;
        };
        let command =
            AgentCommand { migration: record.id, workload: record.workload.clone(), epoch: self.epoch(step), order };
        let node = self.node(step.role());
        if !self.app.agents.send(node, ToAgent::Command(command)) {
            tracing::info!(node, step = %record::step(step), "waiting for the agent");
        }
    }

    /// The longest freeze that the workload bears: its own label's word, or the policy's.
    fn max_downtime_ms(&self) -> u64 {
        let fleet = self.app.fleet();
        let labels = fleet.workloads.get(self.migration.record.workload.as_str()).map(|view| &view.sample.labels);
        let own = labels.and_then(|labels| labels.get("fogshift.max-downtime-ms")?.parse().ok());
        own.unwrap_or_else(|| self.app.policy.get().policy.max_downtime_ms)
    }

    fn bind_mounts(&self) -> Vec<String> {
        self.app.policy.get().policy.files.bind_mounts.clone()
    }

    fn what(&self, step: Step) -> Option<Order> {
        Some(match step {
            Step::Inspect => Order::Inspect { bind_mounts: self.bind_mounts() },
            Step::Reserve => Order::Reserve {
                specification: self.migration.specification.clone()?,
                ticket: self.migration.ticket.clone()?,
                source: self.migration.record.source.clone(),
            },
            Step::Ship => {
                let node = &self.migration.record.destination;
                let destination = self.app.fleet().nodes.get(node)?.peer();
                let record = &self.migration.record;
                let keep_connections = record.connections.as_ref().is_some_and(|found| found.kept);
                // Who asks for stop-and-copy by name has said that it may take its time.
                let bound = record.auto || record.strategy != fog_api::migration::Strategy::StopAndCopy;
                let memory = MemoryOrder {
                    strategy: record.strategy,
                    max_downtime_ms: bound.then(|| self.max_downtime_ms()),
                    cap_mbps: None,
                };
                let (ticket, bind_mounts) = (self.migration.ticket.clone()?, self.bind_mounts());
                Order::Ship { destination, ticket, keep_connections, memory, bind_mounts }
            }
            Step::Restore => Order::Restore,
            Step::Resume => Order::Resume,
            Step::Discard => Order::Discard,
            Step::Settle => Order::Settle { discarded: !self.migration.state.outstanding.contains(&Step::Discard) },
            Step::Thaw => Order::Thaw,
            Step::Abandon => Order::Abandon,
        })
    }
}
