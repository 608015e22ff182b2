//! A frozen source that cannot reach the orchestrator asks its peer.
//!
//! | the destination says | the source |
//! |---|---|
//! | its copy was removed | thaws: only a roll back orders that, and a roll back is never taken back |
//! | it runs there, or all of its memory is there | stays frozen until the orchestrator has it removed: it is committed, and nothing is lost by waiting |
//! | nothing is decided, or nobody answers | stays frozen, and says so in its log and in `fog-agent doctor` |
//!
//! Nothing here happens because time has passed: only what the other end knows counts. Both ends prove that they know the
//! migration's ticket, which each keeps on tmpfs for that.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fog_api::agent::{Command, Order, Outcome, Role, Step, Ticket};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use super::{Engine, Inner, blocking, lock};
use crate::journal::{Record, create_private_folder, write_private};
use crate::transfer::{AnswersPeers, Stands, TicketKey, ask};

/// So long the orchestrator may be away before the peer is asked.
const AWAY: Duration = Duration::from_secs(20);

/// So often it is asked.
const EVERY: Duration = Duration::from_secs(5);

/// On tmpfs, for root only: it holds the migration's secret.
#[derive(Serialize, Deserialize)]
struct Kept {
    ticket: Ticket,
    /// Where the destination listens; only the source asks.
    address: Option<String>,
}

fn folder(inner: &Inner) -> PathBuf {
    inner.config.run_dir.join("tickets")
}

fn file(inner: &Inner, migration: Uuid) -> PathBuf {
    folder(inner).join(format!("{migration}.json"))
}

/// Keeps what it takes to ask, or to be asked. Best effort: without it the source simply stays frozen.
pub(super) async fn remember(inner: &Arc<Inner>, migration: Uuid, ticket: &Ticket, address: Option<&str>) {
    if let (None, Some(key)) = (address, TicketKey::decode(ticket)) {
        let journal = Arc::clone(inner);
        inner.arrivals.keep_only(|known| lock(&journal.journal).get(known).is_some());
        inner.arrivals.keep(migration, key);
    }
    let kept = Kept { ticket: ticket.clone(), address: address.map(str::to_owned) };
    let (folder, file) = (folder(inner), file(inner, migration));
    let written = blocking(move || {
        create_private_folder(&folder)?;
        write_private(&file, serde_json::json!(kept).to_string().as_bytes())
    });
    if let Ok(Err(error)) = written.await {
        tracing::warn!(%migration, %error, "the ticket could not be kept: this end cannot ask the other one");
    }
}

/// The source has nothing to ask about any more.
pub(super) async fn forget(inner: &Arc<Inner>, migration: Uuid) {
    let file = file(inner, migration);
    drop(blocking(move || std::fs::remove_file(file)).await);
}

fn kept(inner: &Inner, migration: Uuid) -> Option<Kept> {
    serde_json::from_slice(&std::fs::read(file(inner, migration)).ok()?).ok()
}

/// How a migration stands at this destination.
fn stands(record: Option<&Record>) -> Stands {
    let Some(record) = record.filter(|record| record.role == Role::Destination) else { return Stands::Open };
    // By a person's word it is removed too, after the commit: that tells nothing about who may run it.
    let rolled_back = record.answers.iter().any(|answer| {
        let removed = answer.key.step == Step::Abandon && matches!(answer.outcome, Outcome::Done(_));
        removed && record.has_begun(Step::Reserve) && !record.is_a_persons_word(answer.key.epoch)
    });
    match record {
        Record { closed: true, .. } if rolled_back && !record.resumed => Stands::Abandoned,
        Record { memory_came: true, .. } => Stands::Whole,
        Record { resumed: true, .. } => Stands::Runs,
        _ => Stands::Open,
    }
}

impl Engine {
    /// After a start: what peers may ask about; tickets of what is forgotten go. Blocking.
    pub(super) fn recover_tickets(&self) {
        let answering = Arc::downgrade(&self.0);
        self.0.arrivals.answer_with(AnswersPeers(Arc::new(move |migration| {
            answering.upgrade().map_or(Stands::Open, |inner| stands(lock(&inner.journal).get(migration)))
        })));
        for entry in std::fs::read_dir(folder(&self.0)).into_iter().flatten().flatten() {
            let path = entry.path();
            let migration = path.file_stem().and_then(|name| name.to_str()?.parse::<Uuid>().ok());
            let record = migration.and_then(|migration| self.0.record(migration));
            let key = migration.and_then(|migration| TicketKey::decode(&kept(&self.0, migration)?.ticket));
            match (record, key) {
                (Some(record), Some(key)) if record.role == Role::Destination => {
                    self.0.arrivals.keep(record.migration, key)
                }
                (Some(record), Some(_)) if !record.closed => {}
                _ => drop(std::fs::remove_file(path)),
            }
        }
    }

    /// Asks about frozen sources while the orchestrator is away; for ever. `connected`: whether it is there.
    pub async fn ask_peers(self, connected: watch::Receiver<bool>) {
        let mut away: Option<Instant> = None;
        loop {
            tokio::time::sleep(EVERY).await;
            if *connected.borrow() {
                away = None;
                continue;
            }
            if away.get_or_insert_with(Instant::now).elapsed() < AWAY {
                continue;
            }
            let frozen = |record: &&Record| record.role == Role::Source && record.froze && !record.closed;
            let frozen: Vec<Record> = lock(&self.0.journal).iter().filter(frozen).cloned().collect();
            for record in frozen {
                self.ask_about(&record).await;
            }
        }
    }

    async fn ask_about(&self, record: &Record) {
        let (migration, workload) = (record.migration, record.workload.clone());
        let Some(Kept { ticket, address: Some(address) }) = kept(&self.0, migration) else {
            return self
                .say(
                    record,
                    "the orchestrator is away and the ticket to ask the destination with is gone; it stays frozen",
                )
                .await;
        };
        let Some(key) = TicketKey::decode(&ticket) else { return };
        match ask(&address, migration, key).await {
            Ok(Stands::Abandoned) => {
                self.say(
                    record,
                    "the destination has removed its copy, which only a roll back orders; it goes on here",
                )
                .await;
                let epoch = record.begun.iter().map(|(_, epoch)| *epoch).min().unwrap_or_default();
                let (progress, _ignored) = mpsc::channel(1);
                // The same step that the orchestrator will order: fence, lane and journal see no difference.
                drop(self.run(Command { migration, workload, epoch, order: Order::Thaw }, progress).await);
            }
            Ok(Stands::Runs | Stands::Whole) => {
                self.say(
                    record,
                    "it runs at the destination; the frozen copy stays until the orchestrator has it removed",
                )
                .await;
            }
            Ok(Stands::Open) => {
                self.say(record, "the orchestrator is away and nothing is decided at the destination; it stays frozen")
                    .await;
            }
            Err(error) => {
                let why =
                    format!("neither the orchestrator nor the destination can be reached ({error}); it stays frozen");
                self.say(record, &why).await;
            }
        }
    }

    /// Once for each new answer, and for `doctor` to read.
    async fn say(&self, record: &Record, what: &str) {
        if record.peer.as_deref() == Some(what) {
            return;
        }
        tracing::warn!(migration = %record.migration, workload = record.workload, "frozen: {what}");
        let noted = what.to_owned();
        drop(self.0.note_if_known(record.migration, move |record| record.peer = Some(noted)).await);
    }
}

#[cfg(test)]
mod tests {
    use fog_api::agent::{Answer, CommandKey, Report};

    use super::*;

    fn destination(epoch: u64) -> Record {
        let mut record = Record::new(Uuid::nil(), "web", Role::Destination);
        record.begun.push((Step::Reserve, 3));
        record.closed = true;
        let key = CommandKey { migration: Uuid::nil(), step: Step::Abandon, epoch };
        record.answers.push(Answer { key, outcome: Outcome::Done(Report::default()) });
        record
    }

    #[test]
    fn only_a_roll_back_counts_as_abandoned() {
        assert_eq!(stands(Some(&destination(3))), Stands::Abandoned);
        assert_eq!(stands(Some(&destination(5))), Stands::Open, "a person's word is no roll back");
        assert_eq!(stands(Some(&Record { resumed: true, ..destination(5) })), Stands::Runs);
        let whole = Record { memory_came: true, ..destination(5) };
        assert_eq!(stands(Some(&whole)), Stands::Whole, "said before it is let run, and after it is forgotten");
        assert_eq!(stands(Some(&Record { resumed: true, ..whole })), Stands::Whole);
        assert_eq!(stands(Some(&Record { memory_came: true, ..destination(3) })), Stands::Abandoned);
        assert_eq!(stands(Some(&Record { closed: false, ..destination(3) })), Stands::Open);
        assert_eq!(stands(Some(&Record { role: Role::Source, ..destination(3) })), Stands::Open);
        assert_eq!(stands(None), Stands::Open);
    }
}
