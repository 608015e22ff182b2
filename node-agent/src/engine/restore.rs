//! Destination: Docker starts the container, fog-runc turns that into a restore, and CRIU leaves every task stopped.
//!
//! `docker start` is issued as soon as the container's log is in place, while the workload still runs at the source:
//! Docker's own preparations then cost no downtime. Docker answers no question about a container that it starts, so a
//! large one is started only when the rest of its stream is a matter of moments ([`SOON`]). fog-runc asks over the agent's socket what to do and waits; the
//! [`Verdict`] is given when every byte was verified, or when the stream broke.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fog_api::agent::{Command, FailureKind, Report, Role, Stage, Step};
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::connections::Fate;
use super::early::Early;
use super::failure::{Cause, StepResult};
use super::gate::{Gate, Waiting};
use super::images::Folder;
use super::inspect::init_of;
use super::reserve::restore_folder;
use super::{Inner, Reporter, blocking, console, criu, lock, memory, ms_since, tasks};
use crate::journal::Record;
use crate::runtime::DockerError;
use crate::transfer::{Arrival, Received};

/// The source connects right after the reservation; when it does not, it will not come any more.
const CONNECT: Duration = Duration::from_secs(120);

/// Docker may be kept from answering for this long; its preparations take about a tenth of a second.
const SOON: Duration = Duration::from_millis(300);

/// So long a stream is watched before its own rate counts.
const MEASURED: Duration = Duration::from_millis(50);

/// Progress is told so often.
const TELLING: Duration = Duration::from_millis(200);

/// Bytes a second of a link that nothing is known of yet.
const UNKNOWN_RATE: f64 = 25e6;

/// From the verdict until Docker says that the container is up.
const LONGEST_RESTORE: Duration = Duration::from_secs(600);

/// From "do not restore" until Docker has given up.
const LONGEST_RETREAT: Duration = Duration::from_secs(60);

/// What fog-runc is to do with a container whose first process it was asked to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub(super) enum Verdict {
    /// Restore it.
    Restore {
        /// CRIU's images.
        images: PathBuf,
        /// Where CRIU puts its logs.
        work: PathBuf,
        /// CRIU's configuration file.
        criu_config: PathBuf,
        /// Options that runc has no flag for.
        criu_options: PathBuf,
        /// The images hold a network namespace.
        network: bool,
        /// The images say which cgroups the tasks were in.
        cgroups: bool,
        /// Nothing may come in or go out before the container is continued.
        closed_network: bool,
        /// Where CRIU waits until the rest of the images is there.
        gate: PathBuf,
    },
    /// Create it like any other container: it was restored before and is just being started anew.
    Create,
    /// Fail.
    Refuse {
        /// Why.
        reason: String,
    },
}

/// Restores that fog-runc may ask about, by container.
#[derive(Debug, Default)]
pub(super) struct Restores(Mutex<HashMap<String, watch::Sender<Option<Verdict>>>>);

impl Restores {
    fn begin(&self, container: &str) -> watch::Sender<Option<Verdict>> {
        let verdict = watch::Sender::new(None);
        lock(&self.0).insert(container.to_owned(), verdict.clone());
        verdict
    }

    fn end(&self, container: &str) {
        lock(&self.0).remove(container);
    }

    pub(super) fn watch(&self, container: &str) -> Option<watch::Receiver<Option<Verdict>>> {
        lock(&self.0).get(container).map(watch::Sender::subscribe)
    }
}

pub(super) async fn restore(
    inner: &Arc<Inner>,
    command: &Command,
    cancel: &CancellationToken,
    reporter: &Reporter,
) -> StepResult {
    let interrupted = || {
        let message = "The agent was restarted after the reservation, or there was none; roll the migration back.";
        Cause::new(FailureKind::Interrupted, message)
    };
    let mut arrival = inner.arrivals.watch(command.migration).ok_or_else(interrupted)?;
    let record = inner.record(command.migration).ok_or_else(interrupted)?;
    let container = match record.container {
        Some(container) => container,
        None => match inner.files.container(command.migration, cancel).await {
            Some(container) => container,
            None => return Err(never_created(&arrival.borrow()).unwrap_or_else(interrupted)),
        },
    };
    let epoch = command.epoch;
    inner.note(command, Role::Destination, move |record| record.begun.push((Step::Restore, epoch))).await?;

    criu::warm().await;
    let folder = Folder::of(inner, command.migration);
    history(inner, &container, &folder, &mut arrival, cancel).await?;
    let verdict = inner.restores.begin(&container);
    let restored = under_verdict(inner, command, &container, &folder, &verdict, &mut arrival, cancel, reporter).await;
    inner.restores.end(&container);
    let (received, restore_ms) = restored?;

    let mut stages_ms: BTreeMap<_, _> =
        [(Stage::Verify, received.took.as_secs_f64() * 1e3), (Stage::Restore, restore_ms)].into();
    if let Some(commit_first) = inner.arrivals.memory_apart(command.migration) {
        let draining = Instant::now();
        memory_in_place(inner, command, &container, commit_first, cancel, reporter).await?;
        if !commit_first {
            stages_ms.insert(Stage::Drain, ms_since(draining));
        }
    }
    Ok(Report { container: Some(container), stages_ms, ..Report::default() })
}

/// Before the commit all of the memory is there, or something watches over what is missing.
async fn memory_in_place(
    inner: &Arc<Inner>,
    command: &Command,
    container: &str,
    commit_first: bool,
    cancel: &CancellationToken,
    reporter: &Reporter,
) -> Result<(), Cause> {
    let pages = inner.memory.coming(command.migration).ok_or_else(Cause::cancelled)?;
    if !commit_first {
        let filled = tokio::select! {
            () = cancel.cancelled() => return Err(Cause::cancelled()),
            filled = memory::filled(&pages, memory::SHORT_PATIENCE, reporter) => filled,
        };
        return filled.map(drop).map_err(|reason| broken(&reason));
    }
    let inspect = inner.docker.inspect(container).await.map_err(Cause::docker("inspect the container"))?;
    let init = inspect.as_ref().and_then(init_of);
    let init = init.ok_or_else(|| Cause::new(FailureKind::Runtime, "The restored container has no process."))?;
    inner.note(command, Role::Destination, |record| record.memory_pending = !record.memory_came).await?;
    let guarded = blocking(move || pages.guard(init)).await?;
    guarded.map_err(|error| Cause::node("Nothing could watch over the missing memory", &error))
}

/// Waits for the container's log and puts it in place.
async fn history(
    inner: &Arc<Inner>,
    container: &str,
    folder: &Folder,
    arrival: &mut watch::Receiver<Arrival>,
    cancel: &CancellationToken,
) -> Result<(), Cause> {
    let connected = arrival.wait_for(|arrival| *arrival != Arrival::Awaited);
    tokio::select! {
        () = cancel.cancelled() => return Err(Cause::cancelled()),
        connected = tokio::time::timeout(CONNECT, connected) => match connected {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return Err(Cause::cancelled()),
            Err(_) => return Err(broken(&format!("the source did not connect within {} s", CONNECT.as_secs()))),
        },
    }
    // From here on the stream itself notices when nothing comes any more.
    let come = tokio::select! {
        () = cancel.cancelled() => return Err(Cause::cancelled()),
        come = arrival.wait_for(|arrival| !matches!(arrival, Arrival::Awaited | Arrival::Connected)) => match come {
            Ok(come) => come.clone(),
            Err(_) => return Err(Cause::cancelled()),
        },
    };
    if let Arrival::Broken(reason) = come {
        return Err(broken(&reason));
    }
    let log = inner.docker.log_file(container).await.map_err(Cause::docker("say where its logs are"))?;
    let received = folder.path().to_owned();
    let placed = blocking(move || console::place_history(&received, &log)).await?;
    placed.map_err(|error| Cause::node("The container's log could not be put in place", &error))
}

/// Why there is no container: its image did not come.
fn never_created(arrival: &Arrival) -> Option<Cause> {
    match arrival {
        Arrival::Broken(reason) => Some(broken(reason)),
        _ => None,
    }
}

fn broken(reason: &str) -> Cause {
    Cause::new(FailureKind::Transfer, format!("The stream from the source did not get through: {reason}."))
}

/// Starts the container, gives the verdict when the stream is through, and checks that nothing runs.
#[expect(clippy::too_many_arguments, reason = "one call, and each is something else")]
async fn under_verdict(
    inner: &Arc<Inner>,
    command: &Command,
    container: &str,
    folder: &Folder,
    verdict: &watch::Sender<Option<Verdict>>,
    arrival: &mut watch::Receiver<Arrival>,
    cancel: &CancellationToken,
    reporter: &Reporter,
) -> Result<(Received, f64), Cause> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(Cause::cancelled()),
        near = nearly_there(inner, command, arrival, reporter) => near?,
        () = inner.files.layer_wanted(command.migration) => {}
        never = not_yet(inner, command) => match never {},
    }
    // A task of its own: Docker must always hear the end of its request.
    let mut start = tokio::spawn({
        let (docker, container) = (inner.docker.clone(), container.to_owned());
        async move { docker.start(&container).await }.in_current_span()
    });
    let refuse = async |start: tokio::task::JoinHandle<_>, cause: Cause| {
        verdict.send_replace(Some(Verdict::Refuse { reason: cause.message().to_owned() }));
        drop(tokio::time::timeout(LONGEST_RETREAT, start).await);
        Err(cause)
    };

    let waiting = tokio::select! {
        biased;
        () = cancel.cancelled() => return refuse(start, Cause::cancelled()).await,
        waiting = at_the_gate(inner, command, container, folder, verdict, arrival) => match waiting {
            Ok(waiting) => waiting,
            Err(cause) => return refuse(start, cause).await,
        },
        started = &mut start => return Err(not_restored(folder, started).await),
    };
    inner.arrivals.ready(command.migration);
    // From here on it suffices to let go of `waiting`: the restore is given up then.
    let received = tokio::select! {
        biased;
        () = cancel.cancelled() => {
            drop(waiting);
            return refuse(start, Cause::cancelled()).await;
        }
        received = complete(arrival, reporter) => match received {
            Ok(received) => received,
            Err(cause) => {
                drop(waiting);
                return refuse(start, cause).await;
            }
        },
        started = &mut start => return Err(not_restored(folder, started).await),
    };

    let began = Instant::now();
    let gone = match ready(inner, command, container, folder).await {
        Ok(tail) => waiting.go(tail.as_deref()).await.map_err(|error| Cause::node("CRIU could not begin", &error)),
        Err(cause) => {
            drop(waiting);
            Err(cause)
        }
    };
    if let Err(cause) = gone {
        return refuse(start, cause).await;
    }
    // CRIU may wait for a page that will never come. Without our descriptors it reads zeros and ends; nothing of it runs.
    let given_up = async {
        let apart = inner.arrivals.memory_apart(command.migration);
        match apart.and(inner.memory.coming(command.migration)) {
            Some(pages) => tokio::select! {
                () = cancel.cancelled() => Cause::cancelled(),
                Err(reason) = memory::filled(&pages, memory::SHORT_PATIENCE, reporter) => broken(&reason),
            },
            None => std::future::pending().await,
        }
    };
    let started = tokio::select! {
        started = tokio::time::timeout(LONGEST_RESTORE, &mut start) => started,
        cause = given_up => {
            inner.memory.stop(command.migration).await;
            drop(tokio::time::timeout(LONGEST_RESTORE, start).await);
            return Err(cause);
        }
    };
    match started {
        Ok(Ok(Ok(()))) => {}
        Ok(started) => return Err(not_restored(folder, started).await),
        Err(_) => {
            let message = format!("Docker did not start the container within {} s.", LONGEST_RESTORE.as_secs());
            return Err(Cause::new(FailureKind::Runtime, message));
        }
    }
    held(inner, container).await?;
    Ok((received, ms_since(began)))
}

/// The source need not wait for an end that will start Docker only later.
async fn not_yet(inner: &Inner, command: &Command) -> std::convert::Infallible {
    if let Some(mut prepared) = inner.arrivals.prepared(command.migration)
        && prepared.wait_for(|prepared| *prepared).await.is_ok()
    {
        inner.arrivals.ready(command.migration);
    }
    std::future::pending().await
}

/// Waits until the rest of the stream will be here soon.
async fn nearly_there(
    inner: &Inner,
    command: &Command,
    arrival: &mut watch::Receiver<Arrival>,
    reporter: &Reporter,
) -> Result<(), Cause> {
    let learned = inner.arrivals.rate(command.migration).unwrap_or(UNKNOWN_RATE);
    let (mut first, mut told) = (None, Instant::now());
    loop {
        match &*arrival.borrow_and_update() {
            Arrival::Complete(_) => return Ok(()),
            Arrival::Broken(reason) => return Err(broken(reason)),
            Arrival::Streaming { announced: None, .. } => return Ok(()),
            Arrival::Streaming { bytes, announced: Some(announced) } => {
                let began = first.get_or_insert_with(Instant::now).elapsed();
                let rate = if began > MEASURED { *bytes as f64 / began.as_secs_f64() } else { learned };
                if announced.saturating_sub(*bytes) as f64 <= rate * SOON.as_secs_f64() {
                    return Ok(());
                }
                if *bytes == 0 {
                    // The dump takes its own time.
                    first = None;
                }
                if told.elapsed() > TELLING {
                    told = Instant::now();
                    reporter.tell(Stage::Verify, *bytes, Some(*announced));
                }
            }
            Arrival::Awaited | Arrival::Connected => {}
        }
        if arrival.changed().await.is_err() {
            return Err(Cause::cancelled());
        }
    }
}

/// Waits until every byte is there.
async fn complete(arrival: &mut watch::Receiver<Arrival>, reporter: &Reporter) -> Result<Received, Cause> {
    let mut told = Instant::now();
    loop {
        match &*arrival.borrow_and_update() {
            Arrival::Complete(received) => return Ok(*received),
            Arrival::Broken(reason) => return Err(broken(reason)),
            Arrival::Streaming { bytes, announced } if told.elapsed() > TELLING => {
                told = Instant::now();
                reporter.tell(Stage::Verify, *bytes, *announced);
            }
            _ => {}
        }
        if arrival.changed().await.is_err() {
            return Err(Cause::cancelled());
        }
    }
}

/// Lets fog-runc start runc as soon as the source could freeze, and waits until CRIU is all that is missing.
async fn at_the_gate(
    inner: &Arc<Inner>,
    command: &Command,
    container: &str,
    folder: &Folder,
    verdict: &watch::Sender<Option<Verdict>>,
    arrival: &watch::Receiver<Arrival>,
) -> Result<Waiting, Cause> {
    let mut arrival = arrival.clone();
    let mut prepared = inner.arrivals.prepared(command.migration).ok_or_else(Cause::cancelled)?;
    tokio::select! {
        biased;
        prepared = prepared.wait_for(|prepared| *prepared) => drop(prepared.map_err(|_| Cause::cancelled())?),
        end = arrival.wait_for(|arrival| matches!(arrival, Arrival::Broken(_) | Arrival::Complete(_))) => {
            return Err(match end.map(|end| end.clone()) {
                Ok(Arrival::Broken(reason)) => broken(&reason),
                Ok(_) => broken("the source did not say what it would send"),
                Err(_) => Cause::cancelled(),
            });
        }
    }
    let place = restore_folder(inner, container);
    let (images, work, criu_config) = (folder.images(), folder.work(), place.join("criu.conf"));
    let (criu_options, path) = (place.join("restore.conf"), place.join("gate.sock"));
    let begun = blocking({
        let (images, criu_config, criu_options) = (images.clone(), criu_config.clone(), criu_options.clone());
        move || {
            // The annotation `org.criu.config` names this file, and runc's default one counts no longer then; so it is
            // repeated.
            let theirs = criu::node_options();
            std::fs::write(criu_config, format!("{theirs}\nleave-stopped\n"))?;
            std::fs::write(criu_options, criu::options(&theirs))?;
            Early::read(&images)
        }
    });
    let not_prepared = |error: std::io::Error| Cause::node("The restore could not be prepared", &error);
    let early = begun.await?.map_err(not_prepared)?;
    let gate = Gate::at(&path).map_err(not_prepared)?;
    let Early { network, cgroups, closed_network } = early;
    verdict.send_replace(Some(Verdict::Restore {
        images,
        work,
        criu_config,
        criu_options,
        network,
        cgroups,
        closed_network,
        gate: path,
    }));
    gate.reached().await.map_err(not_prepared)
}

/// The images are complete: makes everything ready that CRIU needs, and remembers which tasks must stay stopped. What the
/// container said last.
async fn ready(
    inner: &Arc<Inner>,
    command: &Command,
    container: &str,
    folder: &Folder,
) -> Result<Option<PathBuf>, Cause> {
    let place = restore_folder(inner, container);
    let (images, work) = (folder.images(), folder.work());
    let apart = inner.arrivals.memory_apart(command.migration).zip(inner.memory.coming(command.migration));
    let prepared = blocking(move || {
        let fate = Fate::of(&images);
        let early = Early::read(&images)?;
        if early.closed_network != (fate == Fate::Kept) {
            return Err(std::io::Error::other("the source did with the connections what it had not said"));
        }
        let established = if fate.established() { "tcp-established\n" } else { "" };
        let lazily = if apart.is_some() { "lazy-pages\n" } else { "" };
        let mut config = std::fs::OpenOptions::new().append(true).open(place.join("criu.conf"))?;
        config.write_all(format!("{established}{lazily}").as_bytes())?;
        if let Some((commit_first, pages)) = apart {
            pages.expect_processes(&images, &work, commit_first)?;
        }
        std::fs::write(place.join("restore.conf"), criu::options(&criu::node_options()) + fate.option())?;
        if criu::has_network(&images)? || criu::needs_wiring(&images)? {
            std::fs::write(place.join("wired-first"), "")?;
        }
        Ok((criu::stopped_tasks(&images)?, fate == Fate::Kept))
    });
    let (stopped, closed_network) =
        prepared.await?.map_err(|error: std::io::Error| Cause::node("The restore could not be prepared", &error))?;
    if closed_network || !stopped.is_empty() {
        let held = move |record: &mut Record| (record.stopped_tasks, record.closed_network) = (stopped, closed_network);
        inner.note(command, Role::Destination, held).await?;
    }
    Ok(console::received_tail(folder.path()))
}

/// Docker's start came to an end that is not a restored container.
async fn not_restored(folder: &Folder, started: Result<Result<(), DockerError>, tokio::task::JoinError>) -> Cause {
    let said = match started {
        Ok(Err(error)) => error.to_string(),
        Ok(Ok(())) => "Docker started the container without asking for the images; is fog-runc the runtime called \
                       `fog` in daemon.json? Run `fog-agent doctor`"
            .to_owned(),
        Err(error) => error.to_string(),
    };
    let log = folder.work().join("restore.log");
    let log = blocking(move || criu::last_lines(&log)).await.unwrap_or_default();
    let reason = criu::meaning(&log).map(|meaning| format!("{meaning} ")).unwrap_or_default();
    Cause::new(FailureKind::Runtime, format!("The container could not be restored. {reason}Docker says: {said}"))
        .with_log(log)
}

/// Nothing of the restored container may run before the commit.
async fn held(inner: &Arc<Inner>, container: &str) -> Result<(), Cause> {
    let inspect = inner.docker.inspect(container).await.map_err(Cause::docker("inspect the container"))?;
    let init = inspect.as_ref().and_then(init_of);
    let init = init.ok_or_else(|| Cause::new(FailureKind::Runtime, "The restored container has no process."))?;
    let (tasks, cgroup) = blocking(move || (tasks::of_container(init), tasks::cgroup(init))).await?;
    if tasks.is_empty() || !tasks.iter().all(tasks::Task::is_still) {
        let message = "The restored container is not held: its tasks run or are gone. Does CRIU know leave-stopped?";
        return Err(Cause::new(FailureKind::Runtime, message));
    }
    if !cgroup.contains(container) {
        let message = "The restored tasks are not in the container's own cgroup, so neither limits nor pausing would \
                       reach them; use a newer runc.";
        return Err(Cause::new(FailureKind::Runtime, message).with_log(cgroup.lines().map(str::to_owned).collect()));
    }
    Ok(())
}
