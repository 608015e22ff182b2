//! Source: freeze, dump, stream. Leaves the container frozen, whole and not running, whatever comes of it.
//!
//! Everything that can be done while the container still runs is done before the freeze: the connection, the
//! handshake, the container's log so far.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fog_api::agent::{Command, FailureKind, MemoryOrder, MemoryReport, Peer, Report, Role, Stage, Step, Ticket};
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::connections::{self, Fate};
use super::console::{self, Console};
use super::dump::{Dump, Plan};
use super::failure::{Cause, StepResult};
use super::files_out::FilesOut;
use super::freeze::{self, Pausing};
use super::images::{self, Folder};
use super::inspect::{id_of, init_of, movable};
use super::memory::{Ahead, Held, Looking, MOST_ROUNDS, Move};
use super::{Inner, Reporter, address, bind_mounts, blocking, budget, image, ms_since, peer, tasks, volumes};
use crate::journal::Record;
use crate::runtime::specification;
use crate::transfer::{Kind, Outgoing, TicketKey};

/// A silent stream counts as broken after `transfer::IDLE`; this is well below.
const ALIVE: Duration = Duration::from_secs(5);

/// Progress is told after this much.
const TELLING_BYTES: u64 = 4 << 20;

/// What the orchestrator said about the way.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) destination: &'a Peer,
    pub(super) ticket: &'a Ticket,
    pub(super) keep_connections: bool,
    pub(super) memory: &'a MemoryOrder,
    pub(super) bind_mounts: &'a [String],
}

pub(super) async fn ship(
    inner: &Arc<Inner>,
    command: &Command,
    way: Way<'_>,
    cancel: &CancellationToken,
    reporter: &Reporter,
) -> StepResult {
    let Way { destination, keep_connections, .. } = way;
    let to = Move { inner, migration: command.migration, destination, reporter, cancel };
    let ticket = TicketKey::decode(way.ticket)
        .ok_or_else(|| Cause::refused("The ticket is not 32 bytes in hexadecimal; the orchestrator made a mistake."))?;
    let (inspect, memory_bytes) = movable(inner, &command.workload, way.bind_mounts).await?;
    let container = id_of(&inspect)?;
    let policy = specification::restart_policy(&inspect);
    let (id, saved, epoch) = (container.clone(), policy.clone(), command.epoch);
    let daemon = inner.world.daemon().await;
    let (moving, bound) = (volumes::moving_names(&inspect), bind_mounts::paths(&inspect));
    inner
        .note(command, Role::Source, move |record| {
            record.begun.push((Step::Ship, epoch));
            record.container = Some(id);
            record.restart_policy = Some(saved);
            record.daemon = daemon;
            record.volumes = moving;
            record.folders = bound;
        })
        .await?;
    let folder = Folder::of(inner, command.migration);
    folder.create().await?;
    peer::remember(inner, command.migration, way.ticket, Some(&destination.transfer_address)).await;

    let mut files = FilesOut::of(inner, &inspect).await?;
    let log = Console::of(&inspect);
    let syncing = Instant::now();
    let already = Already { log: log.clone(), memory_bytes, memory: way.memory };
    let prepare = prepare(&to, &inspect, ticket, already, &mut files);
    let (mut outgoing, console, mut ahead) = or_cancelled(cancel, prepare).await?;
    reporter.over(Stage::Sync, syncing, Some(outgoing.content_bytes()));
    let init = init_of(&inspect).ok_or_else(|| Cause::gone("The container has no process any more."))?;
    let (rounds, memory_apart) = (Instant::now(), ahead.is_some());
    let mut ahead_of_freeze = ahead.as_mut().filter(|ahead| ahead.way.rounds);
    if let Some(ahead) = &mut ahead_of_freeze {
        ahead.rounds(&to, init, &mut outgoing, 1).await?;
        let soon = outgoing.announce(0).await;
        soon.map_err(Cause::transfer(&destination.node))?;
    }
    let plan = Plan::make(&container, &inspect, &folder, destination, memory_apart).await?;
    // It takes a fifth of a second, so it comes before the last rounds.
    let (mut dump, early) = or_cancelled(cancel, prepare_both_ends(&to, &plan, &mut outgoing, way)).await?;
    if let Some(ahead) = &mut ahead_of_freeze {
        ahead.rounds(&to, init, &mut outgoing, MOST_ROUNDS).await?;
        ahead.fits()?;
        let sent = ahead.report.rounds.iter().map(|round| round.sent_bytes).sum();
        reporter.over(Stage::PreCopy, rounds, Some(sent));
    }
    if !specification::never_restarts(&policy) {
        // Otherwise Docker would start the container anew when its frozen process is killed.
        let never = json!({"Name": "no", "MaximumRetryCount": 0});
        let set = inner.docker.set_restart_policy(&container, &never).await;
        set.map_err(Cause::docker("suspend the restart policy"))?;
    }
    let commit_first = ahead.as_ref().is_some_and(|ahead| ahead.way.commit_first);
    let identity = dump.identity;
    let frozen_with = move |record: &mut Record| {
        (record.froze, record.closed_network, record.memory_pending) = (true, keep_connections, commit_first);
        record.checkpoint = identity;
    };
    inner.note(command, Role::Source, frozen_with).await?;
    if cancel.is_cancelled() {
        return Err(Cause::cancelled());
    }

    let frozen = Instant::now();
    let first = Some(init);
    let close =
        async { if keep_connections { connections::close(inner, command.migration, first).await } else { Ok(()) } };
    let (pausing, closed) = tokio::join!(Pausing::begin(&inner.docker, &container, first), close);
    if let Err(cause) = closed {
        drop(pausing.end().await);
        return Err(cause);
    }
    let fate = match (keep_connections, address::outward(first).await) {
        (true, _) => Fate::Kept,
        (false, Ok(0)) => Fate::Internal,
        (false, _) => Fate::Closed,
    };
    reporter.over(Stage::Freeze, frozen, None);
    reporter.tell(Stage::Dump, 0, None);

    let dumping = Instant::now();
    let looking = ahead.is_some().then(|| Looking::begin(init));
    let tail = tail(console, log, first, container.clone());
    let begun = dump.begin(&plan, fate).await;
    let dump = dumped(begun, dump, &mut outgoing, &mut files, inner, cancel);
    // All three come to their end, whatever becomes of the others: a pause on its way must not land after a thaw.
    let (dumped, tail, paused) = tokio::join!(dump, tail, pausing.end());
    paused.map_err(Cause::docker("freeze the container"))?;
    dumped?;
    let tail = tail?;
    reporter.over(Stage::Dump, dumping, None);

    let shipping = Instant::now();
    connections::save(inner, command.migration, &folder)?;
    if let Some(looking) = looking {
        looking.keep_hidden(&folder, init).await?;
    }
    let (before, files) = (outgoing.content_bytes(), list(&folder, &early).await?);
    let checkpoint_bytes = files.iter().map(|(_, _, bytes)| bytes).sum();
    let stream = stream(&mut outgoing, &files, checkpoint_bytes, tail, reporter);
    let stream = or_cancelled(cancel, async { stream.await.map_err(Cause::transfer(&destination.node)) });
    // Beside the stream, for it takes a moment; it need only be done before the destination may go on.
    let (streamed, held) = tokio::join!(stream, hold(inner, command, init));
    streamed?;
    held?;
    reporter.over(Stage::Ship, shipping, Some(outgoing.content_bytes() - before));
    inner.bandwidth.learn(&destination.node, outgoing.content_bytes() - before, shipping.elapsed());

    let memory = match &ahead {
        Some(ahead) => {
            ahead.begin(&folder, init, &way.ticket.0, &destination.transfer_address).await?;
            if !ahead.way.commit_first {
                let draining = Instant::now();
                ahead.whole(&to).await?;
                reporter.over(Stage::Drain, draining, Some(ahead.report().frozen_sent_bytes));
            }
            Some(ahead.report())
        }
        None => None,
    };

    let finished = reporter.finished();
    Ok(Report {
        stages_ms: finished.stages_ms,
        stages_bytes: finished.stages_bytes,
        checkpoint_bytes: Some(checkpoint_bytes),
        sent_bytes: Some(outgoing.sent_bytes() + memory.as_ref().map_or(0, MemoryReport::sent_bytes)),
        memory,
        frozen_ms: Some(ms_since(frozen)),
        ..Report::default()
    })
}

/// From here on a thaw that is not ours lets nothing run: two would run, and memory that is still to be sent would change.
async fn hold(inner: &Arc<Inner>, command: &Command, init: i32) -> Result<(), Cause> {
    let stopped = blocking(move || tasks::stopped(init)).await?;
    let about_to = move |record: &mut Record| (record.held, record.stopped_tasks) = (true, stopped);
    inner.note(command, Role::Source, about_to).await?;
    let still_frozen = blocking(move || {
        tasks::hold(init);
        freeze::is_still_frozen(init)
    });
    if still_frozen.await? == Some(false) {
        return Err(Cause::new(
            FailureKind::Runtime,
            "The container was thawed or ended by somebody else while it was moving.",
        ));
    }
    Ok(())
}

/// The work, unless the migration is given up first.
async fn or_cancelled<T>(cancel: &CancellationToken, work: impl Future<Output = Result<T, Cause>>) -> Result<T, Cause> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Cause::cancelled()),
        result = work => result,
    }
}

/// What is known of the container before anything is sent.
struct Already<'a> {
    log: Option<PathBuf>,
    memory_bytes: u64,
    memory: &'a MemoryOrder,
}

/// Connects, sends the image if it is wanted, the log so far, and the files as they are while the container runs; says
/// how much will come.
async fn prepare(
    to: &Move<'_>,
    inspect: &Value,
    ticket: TicketKey,
    already: Already<'_>,
    files: &mut FilesOut,
) -> Result<(Outgoing, Option<Console>, Option<Ahead>), Cause> {
    let Move { inner, destination, reporter, .. } = *to;
    let outgoing = Outgoing::connect(&destination.transfer_address, to.migration, ticket.clone()).await;
    let mut outgoing = outgoing.map_err(Cause::transfer(&destination.node))?;
    let held = blocking({
        let (init, bytes) = (init_of(inspect).unwrap_or_default(), already.memory_bytes);
        move || Held::of(init, bytes)
    });
    let ahead = Ahead::open(to, ticket, already.memory, held.await?, &mut outgoing).await?;
    image::offer(inner, inspect, &mut outgoing, &destination.node, reporter).await?;
    let prepared = async {
        let console = match already.log {
            Some(log) => Some(Console::send_history(&log, &mut outgoing).await?),
            None => None,
        };
        // How much comes before the destination's Docker is needed: an estimate.
        let at_once = ahead.as_ref().is_some_and(|ahead| !ahead.way.rounds);
        outgoing.announce(if at_once { 0 } else { already.memory_bytes }).await?;
        outgoing.end_history().await?;
        Ok(console)
    };
    let console = prepared.await.map_err(Cause::transfer(&destination.node))?;
    files.while_running(inner, &mut outgoing, &destination.node, reporter).await?;
    let all_in_the_freeze = ahead.as_ref().is_none_or(|ahead| !ahead.way.rounds && !ahead.way.commit_first);
    if let Some(most) = already.memory.max_downtime_ms.filter(|_| all_in_the_freeze) {
        budget::fits(to, &mut outgoing, already.memory_bytes, most).await?;
    }
    Ok((outgoing, console, ahead))
}

/// What the container logged after its history was sent. It is frozen: nothing follows.
async fn tail(
    console: Option<Console>,
    log: Option<PathBuf>,
    init: Option<i32>,
    container: String,
) -> Result<Option<Vec<u8>>, Cause> {
    let (Some(console), Some(log), Some(init)) = (console, log, init) else { return Ok(None) };
    let read = blocking(move || {
        console::wait_until_read(init, &container, &log);
        console.tail()
    });
    read.await?.map(Some).map_err(|error| Cause::node("The container's log could not be read", &error))
}

/// While the container still runs: starts runc here, and there.
async fn prepare_both_ends(
    to: &Move<'_>,
    plan: &Plan,
    outgoing: &mut Outgoing,
    way: Way<'_>,
) -> Result<(Dump, [&'static str; 2]), Cause> {
    let dump = Dump::prepare(plan).await?;
    let folder = Folder::of(to.inner, to.migration);
    let early = plan.early(way.keep_connections).write(&folder.images());
    let early = early.map_err(|error| Cause::node("The images could not be begun", &error))?;
    let ahead = async {
        for name in early {
            outgoing.send_file(Kind::Image, name, &folder.images().join(name), |_| {}).await?;
        }
        outgoing.prepared().await
    };
    ahead.await.map_err(Cause::transfer(&to.destination.node))?;
    Ok((dump, early))
}

/// Waits for the dump of the frozen container. Meanwhile the rest of its files is sent, and then the stream is kept alive.
async fn dumped(
    begun: Result<(), Cause>,
    mut dump: Dump,
    outgoing: &mut Outgoing,
    files: &mut FilesOut,
    inner: &Arc<Inner>,
    cancel: &CancellationToken,
) -> Result<(), Cause> {
    begun?;
    let (dumped, failed) = (CancellationToken::new(), cancel.child_token());
    let stay_in_touch = async {
        or_cancelled(&failed, files.rest(inner, outgoing, "the destination")).await?;
        let mut ticks = tokio::time::interval(ALIVE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = dumped.cancelled() => return Ok(()),
                _ = ticks.tick() => outgoing.alive().await.map_err(Cause::transfer("the destination"))?,
            }
        }
    };
    // The dump is never cut short, so everything else waits for its end.
    let finish = async {
        let finished = dump.finish().await;
        if finished.is_err() {
            failed.cancel();
        }
        dumped.cancel();
        finished
    };
    let (finished, sent) = tokio::join!(finish, stay_in_touch);
    finished?;
    sent
}

type Files = Vec<(String, PathBuf, u64)>;

/// All images but those that went ahead.
async fn list(folder: &Folder, early: &[&str]) -> Result<Files, Cause> {
    let images = folder.images();
    let files = blocking(move || images::list(&images)).await?;
    let mut files = files.map_err(|error| Cause::node("The images could not be listed", &error))?;
    files.retain(|(name, _, _)| !early.contains(&name.as_str()));
    if files.is_empty() {
        return Err(Cause::new(FailureKind::Runtime, "The dump left no images behind."));
    }
    Ok(files)
}

async fn stream(
    outgoing: &mut Outgoing,
    files: &Files,
    bytes_total: u64,
    tail: Option<Vec<u8>>,
    reporter: &Reporter,
) -> Result<(), crate::transfer::TransferError> {
    outgoing.announce(bytes_total).await?;
    let (mut bytes, mut told) = (0, 0);
    for (name, path, _) in files {
        let count = |sent| {
            bytes += sent;
            if bytes - told >= TELLING_BYTES {
                told = bytes;
                reporter.tell(Stage::Ship, bytes, Some(bytes_total));
            }
        };
        outgoing.send_file(Kind::Image, name, path, count).await?;
    }
    if let Some(tail) = tail {
        console::send_tail(tail, outgoing).await?;
    }
    outgoing.finish().await?;
    reporter.tell(Stage::Ship, bytes_total, Some(bytes_total));
    Ok(())
}
