//! What an agent's engine does to its node, simulated: the other side of `fog_agent::engine::World`.
//!
//! Docker carries on with a request whose agent has died, and its answer comes later than its deed: so each is a task of
//! its own. A dead agent gets no answer any more, which is how its steps stop. The four steps before the commit keep the
//! same notes in the same order as the real ones (`inspect.rs`, `reserve.rs`, `ship.rs`, `restore.rs`), for what comes
//! after reads them; freezing, dumping, streaming and restoring themselves are a state and a time each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fog_agent::engine::{Done, Engine, Job, Reporter, World};
use fog_agent::journal::{ProcessIdentity, Record};
use fog_agent::runtime::DockerError;
use fog_api::agent::{Failure, FailureKind, MemoryReport, Order, Report, Role, Specification, Stage, Step};
use fog_api::migration::Strategy;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock;
use crate::cluster::{Broken, Cluster, Inner, Pages, State, Stream};
use crate::network::Network;

/// The source does not get through for so long before it gives up.
const CONNECT: Duration = Duration::from_secs(10);
/// The destination waits so long for a stream that never begins.
const STREAM: Duration = Duration::from_secs(120);
/// And so long for memory that does not move, after the commit (`PATIENCE` in `engine/memory.rs`).
const PATIENCE: Duration = Duration::from_secs(90);
/// Somebody looks whether it has come so far.
const LOOK: Duration = Duration::from_millis(500);
/// One part of the memory takes so long.
const PART: Duration = Duration::from_millis(200);

/// One run of an agent.
#[derive(Debug, Clone, Default)]
pub struct Life(Arc<AtomicBool>);

impl Life {
    /// It is over.
    pub fn end(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// A dead agent learns nothing any more.
    async fn goes_on(&self) {
        if self.is_over() {
            std::future::pending::<()>().await;
        }
    }
}

/// One node, as one run of its agent sees it.
#[derive(Debug, Clone)]
pub struct Node {
    /// All nodes.
    pub cluster: Cluster,
    /// The ways between them.
    pub network: Network,
    /// This one.
    pub name: String,
    /// The run.
    pub life: Life,
}

fn failure(kind: FailureKind, message: &str) -> Failure {
    Failure { kind, message: message.to_owned(), log: Vec::new() }
}

fn cancelled() -> Failure {
    failure(FailureKind::Cancelled, "The migration was given up while this step was due or under way.")
}

fn docker(error: DockerError) -> Failure {
    let kind = if matches!(error, DockerError::NotFound(_)) { FailureKind::Gone } else { FailureKind::Runtime };
    Failure { kind, message: error.to_string(), log: Vec::new() }
}

fn no_such(container: &str) -> DockerError {
    DockerError::NotFound(format!("no such container: {container}"))
}

impl Node {
    /// How long something takes: mostly `usual` to four times that, seldom minutes.
    fn time(&self, usual_ms: u64) -> Duration {
        let slow = if self.cluster.trouble(15) { 20_000 + self.cluster.below(150_000) } else { 0 };
        Duration::from_millis(usual_ms + self.cluster.below(usual_ms * 3) + slow)
    }

    /// Asks Docker for something. It does it after a while, and answers after another.
    async fn docker<T: Send + 'static>(
        &self,
        deed: impl FnOnce(&mut Inner, &str) -> Result<T, DockerError> + Send + 'static,
    ) -> Result<T, DockerError> {
        if self.cluster.inner().docker_away.contains(&self.name) || self.cluster.trouble(10) {
            sleep(self.time(20)).await;
            self.life.goes_on().await;
            return Err(DockerError::Unreachable("it is away".to_owned()));
        }
        let (takes, after) = (self.time(15), self.time(3));
        let until = {
            // Docker locks a container for what it does to it: one thing after the other.
            let mut inner = self.cluster.inner();
            let busy = inner.docker_busy.entry(self.name.clone()).or_insert_with(Instant::now);
            *busy = (*busy).max(Instant::now()) + takes;
            *busy
        };
        let (cluster, node) = (self.cluster.clone(), self.name.clone());
        let done = tokio::spawn(async move {
            sleep_until(until).await;
            let result = cluster.change(|inner| deed(inner, &node));
            sleep(after).await;
            result
        });
        let result = done.await.unwrap_or_else(|error| Err(DockerError::Unreachable(error.to_string())));
        self.life.goes_on().await;
        result
    }

    async fn or_cancelled<T>(
        &self,
        cancel: &CancellationToken,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(cancelled()),
            result = work => result,
        }
    }

    /// Something goes wrong that nobody foresaw.
    async fn maybe_fails(&self, what: &str, kind: FailureKind) -> Result<(), Failure> {
        self.life.goes_on().await;
        if self.cluster.trouble(25) {
            return Err(failure(kind, &format!("{what} failed.")));
        }
        Ok(())
    }

    fn reaches(&self, other: &str) -> bool {
        self.network.reach(&self.name, other)
    }

    /// Waits until the destination takes the stream.
    async fn connect(&self, destination: &str, migration: Uuid) -> Result<(), Failure> {
        let there = || {
            self.reaches(destination) && self.cluster.inner().expecting.contains(&(destination.to_owned(), migration))
        };
        let waited = timeout(CONNECT, async {
            while !there() {
                sleep(LOOK).await;
            }
        });
        waited.await.map_err(|_| failure(FailureKind::Transfer, "The destination does not answer."))?;
        self.life.goes_on().await;
        Ok(())
    }

    async fn freeze_and_send(&self, job: &Job<'_>, destination: &str, commit_first: bool) -> Result<f64, Failure> {
        let (migration, workload) = (job.command.migration, job.command.workload.clone());
        let record = job.record().ok_or_else(|| failure(FailureKind::Node, "The journal is gone."))?;
        let container = record.container.unwrap_or_default();
        let policy = record.restart_policy.unwrap_or_default();
        let connecting = async {
            self.connect(destination, migration).await?;
            sleep(self.time(100)).await; // the image, the files while it runs
            self.maybe_fails("Sending the files", FailureKind::Transfer).await
        };
        self.or_cancelled(job.cancel, connecting).await?;
        if policy["Name"] != "no" && !self.cluster.is(Broken::KeepsTheRestartPolicy) {
            self.set_restart_policy(&container, &json!({"Name": "no", "MaximumRetryCount": 0}))
                .await
                .map_err(docker)?;
        }
        job.note(Role::Source, move |record: &mut Record| {
            (record.froze, record.memory_pending) = (true, commit_first);
        })
        .await?;
        self.life.goes_on().await;
        if job.cancel.is_cancelled() {
            return Err(cancelled());
        }
        let id = container.clone();
        let frozen = Instant::now();
        let pause = self.docker(move |inner, node| match inner.find(node, &id).map(|one| one.state) {
            None => Err(no_such(&id)),
            Some(State::Running) => {
                inner.put(node, &id, State::Paused);
                Ok(())
            }
            Some(_) => Err(DockerError::Said { status: 409, message: "it does not run".to_owned() }),
        });
        pause.await.map_err(docker)?;
        job.reporter.tell(Stage::Dump, 0, None);
        // The dump is never cut short, and outlives the agent.
        let (dump, ends) = {
            let takes = self.time(80);
            let mut inner = self.cluster.inner();
            let dump = inner.number();
            let ends = Instant::now() + takes;
            inner.dumps.insert(dump, (container.clone(), ends));
            (dump, ends)
        };
        let identity = ProcessIdentity { pid: dump, started: 0 };
        job.note(Role::Source, move |record: &mut Record| record.checkpoint = Some(identity)).await?;
        sleep_until(ends).await;
        self.cluster.inner().dumps.remove(&dump);
        self.maybe_fails("The dump", FailureKind::Runtime).await?;
        let streaming = async {
            sleep(self.time(150)).await;
            self.maybe_fails("The stream", FailureKind::Transfer).await?;
            let lost = || failure(FailureKind::Transfer, "The stream broke.");
            if !self.reaches(destination) {
                return Err(lost());
            }
            let arrived = self.cluster.change(|inner| {
                let waits = inner.expecting.contains(&(destination.to_owned(), migration));
                let paused = inner.find(&self.name, &container).is_some_and(|one| one.state == State::Paused);
                let arrived = waits && paused && inner.streams.get(&migration) == Some(&Stream::Awaited);
                if arrived {
                    inner.streams.insert(migration, Stream::Arrived);
                    let name = inner.name(migration);
                    inner.say(format!("{}: all of {workload} is shipped ({name})", self.name));
                }
                if arrived && commit_first {
                    let left = 10 + inner.random.u32(0..300);
                    let pages = inner.pages.entry(migration).or_insert_with(Pages::default);
                    (pages.from, pages.left) = (Some((self.name.clone(), container.clone())), left);
                    (pages.going, pages.moved) = (true, clock::now());
                }
                arrived
            });
            if arrived { Ok(()) } else { Err(lost()) }
        };
        self.or_cancelled(job.cancel, streaming).await?;
        Ok(frozen.elapsed().as_secs_f64() * 1e3)
    }

    async fn start_held(&self, job: &Job<'_>, container: &str) -> Result<(), Failure> {
        let migration = job.command.migration;
        let arriving = async {
            let wait = async {
                loop {
                    let changed = self.cluster.changed.notified();
                    tokio::pin!(changed);
                    changed.as_mut().enable();
                    let stream = self.cluster.inner().streams.get(&migration).copied();
                    match stream {
                        Some(Stream::Arrived) => return Ok(()),
                        Some(Stream::Broken) | None => {
                            return Err(failure(FailureKind::Transfer, "The stream broke."));
                        }
                        Some(Stream::Awaited) => changed.await,
                    }
                }
            };
            let late = |_| failure(FailureKind::Transfer, "The source has not sent anything.");
            timeout(STREAM, wait).await.map_err(late)?
        };
        self.or_cancelled(job.cancel, arriving).await?;
        self.life.goes_on().await;
        self.maybe_fails("CRIU's restore", FailureKind::Runtime).await?;
        let lazily = self.cluster.inner().pages.contains_key(&migration);
        if lazily {
            job.note(Role::Destination, |record: &mut Record| record.memory_pending = true).await?;
        }
        let (id, running) = (container.to_owned(), self.cluster.is(Broken::RestoresRunning));
        let started = self.docker(move |inner, node| {
            let Some(one) = inner.find(node, &id) else { return Err(no_such(&id)) };
            if one.state != State::Created {
                return Err(DockerError::Said { status: 409, message: "it is up".to_owned() });
            }
            one.whole = !lazily;
            inner.put(node, &id, if running { State::Running } else { State::Held });
            if let Some(pages) = inner.pages.get_mut(&migration) {
                (pages.to, pages.coming) = (Some((node.to_owned(), id)), true);
                pages.moved = clock::now();
            }
            Ok(())
        });
        started.await.map_err(docker)?;
        if lazily {
            let (node, engine) = (self.clone(), job.engine.clone());
            tokio::spawn(async move { node.bring_pages(&engine, migration).await });
        }
        Ok(())
    }
}

impl Node {
    /// Memory travels while both agents and the way between them are there.
    async fn bring_pages(&self, engine: &Engine, migration: Uuid) {
        loop {
            sleep(PART).await;
            let mut inner = self.cluster.inner();
            let Some(pages) = inner.pages.get(&migration).cloned() else { return };
            let (Some((source, frozen)), Some((destination, container))) = (&pages.from, &pages.to) else { return };
            let is = |inner: &mut Inner, node: &str, id: &str, states: &[State]| {
                inner.find(node, id).is_some_and(|one| states.contains(&one.state))
            };
            let there = is(&mut inner, destination, container, &[State::Held, State::Running, State::Paused]);
            if self.life.is_over() || !there {
                return;
            }
            let flows = pages.going
                && pages.coming
                && self.network.reach(source, destination)
                && is(&mut inner, source, frozen, &[State::Paused]);
            if !flows {
                continue;
            }
            let left = pages.left - 1;
            if let Some(pages) = inner.pages.get_mut(&migration) {
                (pages.left, pages.moved) = (left, clock::now());
                pages.whole = left == 0;
            }
            if left > 0 {
                continue;
            }
            if let Some(one) = inner.find(destination, container) {
                one.whole = true;
            }
            let name = inner.name(migration);
            inner.say(format!("{destination}: no memory is missing any more ({name})"));
            break;
        }
        sleep(self.time(10)).await;
        // Who gives up comes before this or after it.
        let mut inner = self.cluster.inner();
        let comes = inner.pages.get(&migration).is_some_and(|pages| pages.coming);
        if self.life.is_over() || !comes || engine.memory_is_whole(migration).is_err() {
            return;
        }
        if let Some(pages) = inner.pages.get_mut(&migration) {
            pages.noted = true;
        }
        let name = inner.name(migration);
        inner.say(format!("{}: it is written down that no memory is missing ({name})", self.name));
    }

    /// The source's agent hears that nothing is missing, over the stream or because it asks.
    fn hears(&self, migration: Uuid) -> bool {
        let mut inner = self.cluster.inner();
        let Some(pages) = inner.pages.get_mut(&migration) else { return false };
        let (Some((source, _)), Some((destination, _))) = (&pages.from, &pages.to) else { return false };
        let known = if self.cluster.is(Broken::TellsBeforeNoting) { pages.whole } else { pages.noted };
        pages.heard |= pages.going && known && self.network.reach(source, destination);
        pages.heard
    }
}

impl World for Node {
    fn inspect<'a>(&'a self, container: &'a str) -> BoxFuture<'a, Result<Option<Value>, DockerError>> {
        let container = container.to_owned();
        Box::pin(self.docker(move |inner, node| {
            Ok(inner.find(node, &container).map(|one| crate::cluster::Container::inspect(one)))
        }))
    }

    fn unpause<'a>(&'a self, container: &'a str) -> BoxFuture<'a, Result<(), DockerError>> {
        let container = container.to_owned();
        Box::pin(self.docker(move |inner, node| {
            let Some(one) = inner.find(node, &container).cloned() else { return Err(no_such(&container)) };
            if one.state != State::Paused {
                return Err(DockerError::Said { status: 409, message: "it is not paused".to_owned() });
            }
            let now = Instant::now();
            if inner.dumps.values().any(|(dumped, ends)| *dumped == one.id && *ends > now) {
                inner.violation(format!("{} was thawed while CRIU's code was in it", one.workload));
            }
            inner.put(node, &container, State::Running);
            Ok(())
        }))
    }

    fn start<'a>(&'a self, container: &'a str) -> BoxFuture<'a, Result<(), DockerError>> {
        let container = container.to_owned();
        Box::pin(self.docker(move |inner, node| match inner.find(node, &container).map(|one| one.state) {
            None => Err(no_such(&container)),
            Some(State::Exited | State::Created) => {
                inner.put(node, &container, State::Running);
                Ok(())
            }
            Some(_) => Ok(()), // it is up
        }))
    }

    fn daemon(&self) -> BoxFuture<'_, Option<String>> {
        let reboots = self.cluster.inner().reboots.get(&self.name).copied().unwrap_or_default();
        Box::pin(std::future::ready(Some(format!("daemon {reboots}"))))
    }

    fn remove<'a>(&'a self, container: &'a str) -> BoxFuture<'a, Result<(), DockerError>> {
        let container = container.to_owned();
        Box::pin(self.docker(move |inner, node| {
            inner.remove(node, &container);
            Ok(())
        }))
    }

    fn set_restart_policy<'a>(
        &'a self,
        container: &'a str,
        policy: &'a Value,
    ) -> BoxFuture<'a, Result<(), DockerError>> {
        let (container, policy) = (container.to_owned(), policy.clone());
        Box::pin(self.docker(move |inner, node| {
            let Some(one) = inner.find(node, &container) else { return Err(no_such(&container)) };
            one.policy = policy;
            Ok(())
        }))
    }

    fn let_run(&self, init: i32, _: Vec<i32>) -> BoxFuture<'_, Result<Option<f64>, Failure>> {
        Box::pin(async move {
            self.maybe_fails("Continuing the tasks", FailureKind::Runtime).await?;
            let runs = self.cluster.change(|inner| match inner.find_process(&self.name, init).cloned() {
                Some(one) if one.state == State::Held => {
                    inner.put(&self.name, &one.id, State::Running);
                    true
                }
                Some(one) => one.state == State::Running,
                None => false,
            });
            Ok(runs.then_some(0.3))
        })
    }

    fn kill_in_place(&self, init: i32) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            self.life.goes_on().await;
            self.cluster.change(|inner| {
                if let Some(id) = inner.find_process(&self.name, init).map(|one| one.id.clone()) {
                    inner.kill(&self.name, &id);
                }
            });
            Ok(())
        })
    }

    fn dump_ends(&self, dump: ProcessIdentity) -> BoxFuture<'_, Result<bool, Failure>> {
        Box::pin(async move {
            let ends = self.cluster.inner().dumps.get(&dump.pid).map(|(_, ends)| *ends);
            if let Some(ends) = ends {
                sleep_until(ends).await;
            }
            self.life.goes_on().await;
            Ok(true)
        })
    }

    fn look<'a>(&'a self, job: Job<'a>) -> BoxFuture<'a, Done> {
        Box::pin(async move {
            let workload = &job.command.workload;
            let inspect = self.inspect(workload).await.map_err(docker)?;
            let inspect = inspect.ok_or_else(|| failure(FailureKind::Gone, "There is no such container."))?;
            self.maybe_fails("Looking at it", FailureKind::Node).await?;
            if inspect["State"]["Running"] != true || inspect["State"]["Paused"] == true {
                return Err(failure(FailureKind::Refused, "It does not run."));
            }
            let image = "sha256:simulated".to_owned();
            let specification = Specification { name: workload.clone(), image, inspect };
            Ok(Report { specification: Some(specification), ..Report::default() })
        })
    }

    fn reserve<'a>(&'a self, job: Job<'a>) -> BoxFuture<'a, Done> {
        Box::pin(async move {
            let Order::Reserve { specification, .. } = &job.command.order else { return Err(cancelled()) };
            let (migration, epoch, workload) = (job.command.migration, job.command.epoch, specification.name.clone());
            if self.inspect(&workload).await.map_err(docker)?.is_some() {
                return Err(failure(FailureKind::Refused, "The name is taken."));
            }
            self.maybe_fails("Making room", FailureKind::Node).await?;
            let policy = specification.inspect["HostConfig"]["RestartPolicy"].clone();
            job.note(Role::Destination, move |record: &mut Record| {
                record.begun.push((Step::Reserve, epoch));
                record.restart_policy = Some(policy);
            })
            .await?;
            {
                let mut inner = self.cluster.inner();
                inner.streams.insert(migration, Stream::Awaited);
                inner.expecting.insert((self.name.clone(), migration));
            }
            let name = workload.clone();
            let created = self.docker(move |inner, node| {
                if inner.containers.contains_key(&(node.to_owned(), name.clone())) {
                    return Err(DockerError::Said { status: 409, message: "the name is taken".to_owned() });
                }
                Ok(inner.create(node, &name, json!({"Name": "no"}), Some(migration), State::Created))
            });
            let id = created.await.map_err(docker)?;
            let noted = id.clone();
            job.note(Role::Destination, move |record: &mut Record| record.container = Some(noted)).await?;
            Ok(Report { container: Some(id), ..Report::default() })
        })
    }

    fn ship<'a>(&'a self, job: Job<'a>) -> BoxFuture<'a, Done> {
        Box::pin(async move {
            let Order::Ship { destination, memory, .. } = &job.command.order else { return Err(cancelled()) };
            let (migration, epoch) = (job.command.migration, job.command.epoch);
            let inspect = self.inspect(&job.command.workload).await.map_err(docker)?;
            let inspect = inspect.ok_or_else(|| failure(FailureKind::Gone, "There is no such container."))?;
            if inspect["State"]["Running"] != true || inspect["State"]["Paused"] == true {
                return Err(failure(FailureKind::Refused, "It does not run."));
            }
            let (id, policy) =
                (inspect["Id"].as_str().map(str::to_owned), inspect["HostConfig"]["RestartPolicy"].clone());
            let daemon = self.daemon().await;
            job.note(Role::Source, move |record: &mut Record| {
                record.begun.push((Step::Ship, epoch));
                record.daemon = daemon;
                record.container = id;
                record.restart_policy = Some(policy);
            })
            .await?;
            let commit_first = matches!(memory.strategy, Strategy::PostCopy | Strategy::Hybrid);
            let sent = self.freeze_and_send(&job, &destination.node, commit_first).await;
            if sent.is_err() {
                // Its connection closes.
                self.cluster.change(|inner| inner.streams.insert(migration, Stream::Broken));
            }
            Ok(Report { frozen_ms: Some(sent?), ..Report::default() })
        })
    }

    fn restore<'a>(&'a self, job: Job<'a>) -> BoxFuture<'a, Done> {
        Box::pin(async move {
            let (migration, epoch) = (job.command.migration, job.command.epoch);
            let expecting = self.cluster.inner().expecting.contains(&(self.name.clone(), migration));
            let container = job.record().and_then(|record| record.container).filter(|_| expecting);
            let Some(container) = container else {
                let message = "The agent was restarted after the reservation, or there was none.";
                return Err(failure(FailureKind::Interrupted, message));
            };
            job.note(Role::Destination, move |record: &mut Record| record.begun.push((Step::Restore, epoch))).await?;
            self.start_held(&job, &container).await?;
            Ok(Report::default())
        })
    }

    fn memory_comes(&self, _: &Engine, migration: Uuid) -> bool {
        self.cluster.inner().pages.get(&migration).is_some_and(|pages| pages.coming)
    }

    fn memory_came<'a>(
        &'a self,
        engine: &'a Engine,
        migration: Uuid,
        _: &'a Reporter,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            loop {
                self.life.goes_on().await;
                let pages = self.cluster.inner().pages.get(&migration).cloned().unwrap_or_default();
                let lost = if !pages.coming {
                    "this node's agent was restarted while it was on its way"
                } else if pages.noted && self.hears(migration) {
                    return Ok(());
                } else if pages.noted && clock::now() - pages.moved > PATIENCE {
                    return Err(failure(FailureKind::Transfer, "The source, which has to hear so, does not answer."));
                } else if !pages.noted && clock::now() - pages.moved > PATIENCE {
                    "nothing came from the source"
                } else {
                    sleep(LOOK).await;
                    continue;
                };
                if !self.cluster.is(Broken::RunsOnZeros) {
                    self.end_memory(engine, migration).await;
                }
                return Err(failure(FailureKind::Lost, &format!("Memory can never come: {lost}.")));
            }
        })
    }

    fn memory_went<'a>(
        &'a self,
        _: &'a Engine,
        migration: Uuid,
        init: Option<i32>,
    ) -> BoxFuture<'a, Result<Option<MemoryReport>, Failure>> {
        Box::pin(async move {
            loop {
                self.life.goes_on().await;
                {
                    let mut inner = self.cluster.inner();
                    let Some(pages) = inner.pages.get_mut(&migration) else {
                        return Err(failure(FailureKind::Lost, "Nothing is known of its memory."));
                    };
                    if init.is_none() && !pages.going {
                        return Err(failure(FailureKind::Lost, "Its processes are gone."));
                    }
                    pages.going = true; // also after a restart: the frozen processes are still there
                }
                if self.hears(migration) {
                    return Ok(Some(MemoryReport::default()));
                }
                sleep(LOOK).await;
            }
        })
    }

    fn end_memory<'a>(&'a self, _: &'a Engine, migration: Uuid) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.life.goes_on().await;
            self.cluster.change(|inner| {
                inner.expecting.remove(&(self.name.clone(), migration));
                let Some(pages) = inner.pages.get_mut(&migration) else { return };
                if pages.from.as_ref().is_some_and(|(node, _)| *node == self.name) {
                    pages.going = false;
                }
                let ours = pages.to.clone().filter(|(node, _)| *node == self.name && pages.coming);
                let Some((node, container)) = ours else { return };
                pages.coming = false;
                if !pages.noted {
                    inner.kill(&node, &container);
                }
            });
        })
    }
}
