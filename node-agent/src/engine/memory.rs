//! Memory that travels apart from CRIU's images: what each strategy does, and where both ends wait for it.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fog_api::agent::{FailureKind, MemoryOrder, MemoryReport, MemoryRound, Peer, Stage, dirty_bytes_per_s};
use fog_api::migration::Strategy;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::failure::Cause;
use super::images::Folder;
use super::{Engine, Inner, Reporter, blocking, lock, tasks};
use crate::memory::{FillStatus, PagesIn, PagesOut, Round, Seen, SendStatus, Source};
use crate::transfer::{Outgoing, TakesPages, TicketKey};

/// Most rounds while the container runs.
pub(super) const MOST_ROUNDS: usize = 10;

/// A round that sent less than this leaves nothing worth another one.
const LITTLE: u64 = 4 << 20;

/// From here on writing images, sending them and reading them one after the other takes longer than the other way's
/// preparations.
const LARGE: u64 = 64 << 20;

/// Below this, in bytes a second, compressing is faster than sending: about 3 Gbit/s.
const WORTH_COMPRESSING: f64 = 375e6;

/// A restored container waits for its memory's source for so long; then it counts as lost.
const PATIENCE: Duration = Duration::from_secs(90);

/// Before the commit nobody waits for a link that is gone.
pub(super) const SHORT_PATIENCE: Duration = Duration::from_secs(5);

/// Progress is told so often.
const TELLING: Duration = Duration::from_millis(200);

/// What differs between the strategies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    /// Memory is sent while the container runs.
    pub(super) rounds: bool,
    /// The container runs at the destination before all of its memory is there.
    pub(super) commit_first: bool,
}

impl Way {
    /// `None`: memory stays in CRIU's own images. Those keep what forked processes share and need no userfaultfd, but they
    /// are written, sent and read one after the other. So stop-and-copy takes that way for little memory, and for
    /// memory of which much is shared.
    pub(super) fn of(strategy: Strategy, memory: Held) -> Option<Way> {
        let (rounds, commit_first) = match strategy {
            Strategy::StopAndCopy | Strategy::Auto if memory.is_for_images() => return None,
            Strategy::StopAndCopy | Strategy::Auto => (false, false),
            Strategy::PreCopy => (true, false),
            Strategy::PostCopy => (false, true),
            Strategy::Hybrid => (true, true),
        };
        Some(Way { rounds, commit_first })
    }
}

/// Memory that the processes of a container hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    /// All of it.
    pub(super) bytes: u64,
    /// Private memory that several processes still share since they were forked; each counts its own.
    pub(super) shared: u64,
}

impl Held {
    /// Looks at every process of a container. Blocking; about 5 ms a GiB.
    pub(super) fn of(init: i32, bytes: u64) -> Held {
        let shared = host_ids(init).values().map(|pid| crate::memory::shared_bytes(*pid).unwrap_or(bytes)).sum();
        Held { bytes, shared }
    }

    fn is_for_images(self) -> bool {
        self.bytes < LARGE || self.shared > self.bytes / 8
    }
}

/// Memory on its way, by migration.
#[derive(Debug, Default)]
pub(super) struct Movements {
    coming: Mutex<HashMap<Uuid, Arc<PagesIn>>>,
    going: Mutex<HashMap<Uuid, Arc<PagesOut>>>,
}

impl Movements {
    /// Destination: takes connections for memory from now on.
    pub(super) fn expect(&self, inner: &Arc<Inner>, migration: Uuid, folder: &Folder) -> Result<(), Cause> {
        let noting = Arc::downgrade(inner);
        let note = move || noting.upgrade().map_or(Ok(()), |inner| Engine(inner).memory_is_whole(migration));
        let pages = PagesIn::new(&folder.path().join("memory"), Box::new(note));
        let pages = pages.map_err(|error| Cause::node("Memory cannot be taken in", &error))?;
        let taker = Arc::clone(&pages);
        inner.arrivals.take_pages(migration, TakesPages(Arc::new(move |link| taker.take(link))));
        lock(&self.coming).insert(migration, pages);
        Ok(())
    }

    pub(super) fn coming(&self, migration: Uuid) -> Option<Arc<PagesIn>> {
        lock(&self.coming).get(&migration).cloned()
    }

    pub(super) fn going(&self, migration: Uuid) -> Option<Arc<PagesOut>> {
        lock(&self.going).get(&migration).cloned()
    }

    /// Whatever moves of a migration stops. A container that was let run without all of its memory is dead then.
    pub(super) async fn stop(&self, migration: Uuid) {
        if let Some(going) = lock(&self.going).remove(&migration) {
            going.stop();
        }
        let coming = lock(&self.coming).remove(&migration);
        if let Some(coming) = coming {
            drop(blocking(move || coming.stop()).await);
        }
    }
}

/// What a restarted agent needs to send memory again. On tmpfs, beside the images: it holds the migration's secret.
#[derive(Serialize, Deserialize)]
struct Kept {
    address: String,
    ticket: String,
}

fn kept(folder: &Folder) -> PathBuf {
    folder.path().join("memory.json")
}

/// Source: everything that is done about memory before the freeze.
pub(super) struct Ahead {
    pages: Arc<PagesOut>,
    pub(super) way: Way,
    order: MemoryOrder,
    rounds: Vec<Round>,
    pub(super) report: MemoryReport,
}

/// A migration as seen from its source.
pub(super) struct Move<'a> {
    pub(super) inner: &'a Arc<Inner>,
    pub(super) migration: Uuid,
    pub(super) destination: &'a Peer,
    pub(super) reporter: &'a Reporter,
    pub(super) cancel: &'a CancellationToken,
}

impl Ahead {
    /// Opens the connections; `None` where memory is part of the images.
    pub(super) async fn open(
        to: &Move<'_>,
        ticket: TicketKey,
        order: &MemoryOrder,
        memory: Held,
        outgoing: &mut Outgoing,
    ) -> Result<Option<Ahead>, Cause> {
        let Some(way) = Way::of(order.strategy, memory) else { return Ok(None) };
        let learned = to.inner.bandwidth.snapshot().get(&to.destination.node).map(|mbps| mbps * 1e6 / 8.0);
        let source = Source {
            address: to.destination.transfer_address.clone(),
            migration: to.migration,
            ticket,
            compress: learned.is_some_and(|rate| rate < WORTH_COMPRESSING),
            cap: order.cap_mbps.map(|mbps| mbps * 1e6 / 8.0),
        };
        let transfer = || Cause::transfer(&to.destination.node);
        outgoing.memory_apart(way.commit_first).await.map_err(transfer())?;
        let pages = PagesOut::connect(source, random()?).await.map_err(transfer())?;
        lock(&to.inner.memory.going).insert(to.migration, Arc::clone(&pages));
        Ok(Some(Ahead { pages, way, order: *order, rounds: Vec::new(), report: MemoryReport::default() }))
    }

    /// Sends memory while the container runs, until the rest is small or does not get smaller, in at most so many rounds.
    pub(super) async fn rounds(
        &mut self,
        to: &Move<'_>,
        init: i32,
        outgoing: &mut Outgoing,
        most: usize,
    ) -> Result<(), Cause> {
        while self.way.rounds && self.rounds.len() < most && go_on(&self.rounds, self.order.max_downtime_ms) {
            let pages = Arc::clone(&self.pages);
            let total = blocking(move || tasks::resident_bytes(init)).await?;
            let span = tracing::Span::current();
            let mut round = tokio::task::spawn_blocking(move || span.in_scope(|| pages.round(&host_ids(init))));
            let mut ticks = tokio::time::interval(TELLING);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let round = loop {
                tokio::select! {
                    biased;
                    () = to.cancel.cancelled() => {
                        self.pages.stop();
                        drop(round.await);
                        return Err(Cause::cancelled());
                    }
                    round = &mut round => break round,
                    _ = ticks.tick() => {
                        to.reporter.tell(Stage::PreCopy, self.pages.watch().borrow().content, Some(total));
                        outgoing.alive().await.map_err(Cause::transfer(&to.destination.node))?;
                    }
                }
            };
            let round = round.map_err(|error| Cause::new(FailureKind::Node, format!("The agent failed: {error}.")))?;
            let round = round.map_err(Cause::transfer(&to.destination.node))?;
            if self.rounds.is_empty() {
                // Later ones spend their time on looking rather than sending.
                to.inner.bandwidth.learn(&to.destination.node, round.sent, round.took);
            }
            self.rounds.push(round);
            let round = MemoryRound {
                content_bytes: round.content,
                sent_bytes: round.sent,
                took_ms: round.took.as_secs_f64() * 1e3,
            };
            self.report.rounds.push(round);
            self.report.dirty_bytes_per_s = dirty_bytes_per_s(&self.report.rounds);
            to.reporter.round(round);
            to.reporter.tell(Stage::PreCopy, 0, Some(total));
        }
        Ok(())
    }

    /// Whether what is left fits into the freeze that is allowed.
    pub(super) fn fits(&self) -> Result<(), Cause> {
        if let (Some(last), Some(most), false) = (self.rounds.last(), self.order.max_downtime_ms, self.way.commit_first)
        {
            let expected_ms = FIXED_MS + last.took.as_secs_f64() * 1e3;
            if expected_ms > most as f64 && last.content > LITTLE {
                return Err(Cause::refused(format!(
                    "It writes to {:.0} MiB of memory in {:.1} s, as long as sending them takes; a freeze of about {expected_ms:.0} ms would \
                     be needed and {most} ms are allowed. Allow a longer one, or post-copy.",
                    last.content as f64 / f64::from(1 << 20),
                    last.took.as_secs_f64()
                )));
            }
        }
        Ok(())
    }

    /// The container is frozen and dumped: its memory goes out from now on.
    pub(super) async fn begin(&self, folder: &Folder, init: i32, ticket: &str, address: &str) -> Result<(), Cause> {
        let (pages, images) = (Arc::clone(&self.pages), folder.images());
        let note = self.way.commit_first.then(|| {
            (kept(folder), serde_json::json!(Kept { address: address.to_owned(), ticket: ticket.to_owned() }))
        });
        let begun = blocking(move || {
            if let Some((path, kept)) = note {
                crate::journal::write_private(&path, kept.to_string().as_bytes())?;
            }
            pages.begin(&images, host_ids(init))
        });
        begun.await?.map_err(|error| Cause::node("The container's memory cannot be sent", &error))
    }

    /// Waits until the destination says that nothing is missing.
    pub(super) async fn whole(&self, to: &Move<'_>) -> Result<(), Cause> {
        let ended = tokio::select! {
            () = to.cancel.cancelled() => return Err(Cause::cancelled()),
            ended = sent(&self.pages, Some(SHORT_PATIENCE), Some(to.reporter)) => ended,
        };
        ended.map_err(|reason| lost_link(&to.destination.node, &reason))
    }

    /// What is known of it by now.
    pub(super) fn report(&self) -> MemoryReport {
        report(&self.report, &self.pages.watch().borrow())
    }
}

/// A freeze without any memory to send, as measured.
pub(super) const FIXED_MS: f64 = 200.0;

fn lost_link(node: &str, reason: &str) -> Cause {
    Cause::new(FailureKind::Transfer, format!("The container's memory did not get through to {node}: {reason}."))
}

fn report(before: &MemoryReport, status: &SendStatus) -> MemoryReport {
    MemoryReport {
        frozen_total_bytes: status.total,
        frozen_content_bytes: status.content,
        frozen_sent_bytes: status.sent.saturating_sub(status.ahead),
        drain_ms: status.took.map(|took| took.as_secs_f64() * 1e3),
        ..before.clone()
    }
}

/// Whether another round is worth it.
fn go_on(rounds: &[Round], max_downtime_ms: Option<u64>) -> bool {
    let Some(last) = rounds.last() else { return true };
    let fits = max_downtime_ms.is_some_and(|most| FIXED_MS + last.took.as_secs_f64() * 1e3 * 2.0 < most as f64);
    let shrinks = match rounds {
        [.., before, last] => last.content * 10 < before.content * 7,
        _ => true,
    };
    rounds.len() < MOST_ROUNDS && last.content > LITTLE && shrinks && !(fits && last.content * 4 < rounds[0].content)
}

/// Large memory of the frozen container, looked at while CRIU is at work on the rest.
pub(super) struct Looking(JoinHandle<Seen>);

impl Looking {
    pub(super) fn begin(init: i32) -> Looking {
        Looking(tokio::task::spawn_blocking(move || Seen::look(host_ids(init).into_values())))
    }

    /// What was hidden from CRIU while it dumped becomes one of the images.
    pub(super) async fn keep_hidden(self, folder: &Folder, init: i32) -> Result<(), Cause> {
        let seen =
            self.0.await.map_err(|error| Cause::new(FailureKind::Node, format!("The agent failed: {error}.")))?;
        let (work, images) = (folder.work(), folder.images());
        let kept = blocking(move || crate::memory::keep_hidden(&seen, &work, &images, &host_ids(init))).await?;
        kept.map_err(|error| Cause::node("What is left of the memory for later could not be kept", &error))
    }
}

/// The container's processes: ids on the host by ids inside. Blocking.
fn host_ids(init: i32) -> BTreeMap<u32, i32> {
    let tasks = tasks::of_container(init).into_iter();
    tasks.filter_map(|task| Some((u32::try_from(task.inner_pid).ok()?, task.pid))).collect()
}

fn random() -> Result<u64, Cause> {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).map_err(|error| Cause::node("There are no random numbers", &error))?;
    Ok(u64::from_ne_bytes(seed))
}

/// Waits until all has arrived; `patience`: how long the destination may be out of reach.
async fn sent(pages: &PagesOut, patience: Option<Duration>, reporter: Option<&Reporter>) -> Result<(), String> {
    let mut status = pages.watch();
    let mut told = Instant::now();
    loop {
        {
            let status = status.borrow_and_update();
            if status.whole {
                return Ok(());
            }
            if let Some(reason) = &status.broken {
                return Err(reason.clone());
            }
            if let (Some(since), Some(patience)) = (status.cut_off, patience)
                && since.elapsed() > patience
            {
                return Err(format!("it was out of reach for {} s", patience.as_secs()));
            }
            if let Some(reporter) = reporter.filter(|_| told.elapsed() > TELLING) {
                told = Instant::now();
                reporter.tell(Stage::Drain, status.total - status.left, Some(status.total));
            }
        }
        // Without news the clock goes on too.
        drop(tokio::time::timeout(Duration::from_secs(1), status.changed()).await);
    }
}

/// Source, after the commit: waits until the destination has all, for as long as that takes. `None`: there is nothing to
/// wait for.
pub(super) async fn drained(
    inner: &Arc<Inner>,
    migration: Uuid,
    init: Option<i32>,
) -> Result<Option<MemoryReport>, Cause> {
    let pages = match inner.memory.going(migration) {
        Some(pages) => pages,
        None => again(inner, migration, init).await?,
    };
    sent(&pages, None, None).await.map_err(|reason| lost_link("the destination", &reason))?;
    let report = report(&MemoryReport::default(), &pages.watch().borrow());
    lock(&inner.memory.going).remove(&migration);
    Ok(Some(report))
}

/// The agent was restarted: the frozen container is still there, and so are the images on tmpfs.
async fn again(inner: &Arc<Inner>, migration: Uuid, init: Option<i32>) -> Result<Arc<PagesOut>, Cause> {
    let folder = Folder::of(inner, migration);
    let gone = |what: &str| {
        Cause::new(FailureKind::Lost, format!("The frozen container's memory cannot be sent any more: {what}."))
    };
    let init = init.ok_or_else(|| gone("its processes are gone"))?;
    let (path, images) = (kept(&folder), folder.images());
    let read = blocking(move || std::fs::read(path)).await?.map_err(|error| gone(&error.to_string()))?;
    let kept: Kept = serde_json::from_slice(&read).map_err(|error| gone(&error.to_string()))?;
    let ticket =
        TicketKey::decode(&fog_api::agent::Ticket(kept.ticket)).ok_or_else(|| gone("its secret is damaged"))?;
    let source = Source { address: kept.address, migration, ticket, compress: false, cap: None };
    let pages = PagesOut::new(source, random()?);
    lock(&inner.memory.going).insert(migration, Arc::clone(&pages));
    let begun = Arc::clone(&pages);
    let begun = blocking(move || begun.begin(&images, host_ids(init))).await?;
    begun.map_err(|error| gone(&error.to_string()))?;
    Ok(pages)
}

/// Destination: waits until nothing is missing. The reason, when that will never be.
pub(super) async fn filled(pages: &PagesIn, patience: Duration, reporter: &Reporter) -> Result<FillStatus, String> {
    let mut status = pages.watch();
    let mut told = Instant::now();
    loop {
        {
            let status = status.borrow_and_update();
            if status.whole {
                return Ok(status.clone());
            }
            if let Some(reason) = &status.broken {
                return Err(reason.clone());
            }
            if let Some(since) = status.cut_off.filter(|since| since.elapsed() > patience) {
                return Err(format!("nothing came from the source for {} s", since.elapsed().as_secs()));
            }
            if told.elapsed() > TELLING && status.restored {
                told = Instant::now();
                reporter.tell(Stage::Drain, status.total - status.missing, Some(status.total));
            }
        }
        drop(tokio::time::timeout(Duration::from_secs(1), status.changed()).await);
    }
}

/// Destination, after the commit: waits for the rest. A container whose memory can never come is killed: it must not run
/// on with zeros in its place.
pub(super) async fn settled(inner: &Arc<Inner>, migration: Uuid, reporter: &Reporter) -> Result<(), Cause> {
    let lost = |reason: &str| {
        Cause::new(
            FailureKind::Lost,
            format!(
                "Memory of the container can never come: {reason}. It was ended here. Its last consistent state is the freeze at \
                 the source, which still holds that frozen copy: `fogctl migration resolve` with `--keep source` lets it go on from there."
            ),
        )
    };
    let Some(pages) = inner.memory.coming(migration) else {
        return Err(lost("this node's agent was restarted while it was on its way"));
    };
    if let Err(reason) = filled(&pages, PATIENCE, reporter).await {
        inner.memory.stop(migration).await;
        return Err(lost(&reason));
    }
    // The source must hear of it, for it cannot ask any more once this migration is forgotten here.
    let mut status = pages.watch();
    let heard = tokio::time::timeout(PATIENCE, status.wait_for(|status| status.acknowledged)).await;
    // Forgotten before, this migration would leave the source frozen and asking for ever.
    heard.map(drop).map_err(|_| {
        let message =
            "All of the memory is here, and the source, which has to hear so, does not answer; it is told again.";
        Cause::new(FailureKind::Transfer, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(mebibytes: u64, ms: u64) -> Round {
        Round { content: mebibytes << 20, sent: mebibytes << 20, took: Duration::from_millis(ms) }
    }

    #[test]
    fn stop_and_copy_leaves_to_criu_what_is_small_or_shared() {
        let of = |mebibytes: u64, shared: u64| {
            Way::of(Strategy::StopAndCopy, Held { bytes: mebibytes << 20, shared: shared << 20 })
        };
        assert_eq!(of(4, 0), None);
        assert_eq!(of(1024, 0), Some(Way { rounds: false, commit_first: false }));
        assert_eq!(of(1024, 500), None);
    }

    #[test]
    fn rounds_end_when_they_win_nothing() {
        assert!(go_on(&[], None), "the first one is always made");
        assert!(go_on(&[round(1000, 1000)], None));
        assert!(!go_on(&[round(1000, 1000), round(3, 5)], None), "hardly anything is left");
        assert!(!go_on(&[round(1000, 1000), round(900, 900)], None), "it does not get smaller");
        assert!(go_on(&[round(1000, 1000), round(200, 200)], None));
        assert!(!go_on(&[round(1000, 1000), round(200, 200)], Some(1000)), "that fits into the freeze");
        let many: Vec<Round> = (0..10).map(|at| round(100_000 >> at, 1000)).collect();
        assert!(!go_on(&many, None));
    }
}
