//! Following one migration to its end, across lost connections and restarts of the orchestrator.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use uuid::Uuid;

use super::{Client, ClientError, Notice};
use crate::event::Event;
use crate::migration::Migration;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What happened while waiting.
#[derive(Debug)]
pub enum Update<'a> {
    /// The migration's newest state.
    Migration(&'a Migration),
    /// The orchestrator cannot be reached just now; the waiting goes on.
    Reconnecting(&'a ClientError),
}

/// How the waiting ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Waited {
    /// The migration is over; its phase says how it ended.
    Over(Migration),
    /// The deadline passed first. The migration goes on; this was its last known state, if one was seen at all.
    TimedOut(Option<Migration>),
}

impl Client {
    /// Follows a migration until it is over or the deadline passes. An orchestrator that is away for a while is waited
    /// for: the migration is taken up again when it comes back.
    pub async fn wait_for_migration(
        &self,
        id: Uuid,
        deadline: Instant,
        mut on_update: impl FnMut(Update<'_>),
    ) -> Result<Waited, ClientError> {
        let mut last: Option<Migration> = None;
        let follow = async {
            let mut pause = FIRST_PAUSE;
            loop {
                let mut seen = |migration: Migration| {
                    // What was fetched may be newer than what the stream still held.
                    if last.as_ref().is_none_or(|last| last.phases.len() <= migration.phases.len()) {
                        pause = FIRST_PAUSE;
                        on_update(Update::Migration(last.insert(migration)));
                    }
                    last.as_ref().is_some_and(|last| last.phase.is_over())
                };
                match self.follow(id, &mut seen).await {
                    Ok(()) => return Ok(()),
                    Err(error) if error.is_passing() => on_update(Update::Reconnecting(&error)),
                    Err(error) => return Err(error),
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        };
        let over = tokio::time::timeout_at(deadline.into(), follow).await;
        match (over, last) {
            (Ok(Ok(())), Some(migration)) => Ok(Waited::Over(migration)),
            (Ok(Err(error)), _) => Err(error),
            (_, last) => Ok(Waited::TimedOut(last)),
        }
    }

    /// Follows over one connection. The state is fetched after the stream is open, so that nothing falls in between.
    async fn follow(&self, id: Uuid, seen: &mut impl FnMut(Migration) -> bool) -> Result<(), ClientError> {
        let mut notices = self.notices().await?;
        if seen(self.migration(id).await?) {
            return Ok(());
        }
        while let Some(notice) = notices.next().await {
            let over = match notice? {
                Notice::Event(Event::Migration { migration }) if migration.id == id => seen(migration),
                Notice::Missed => seen(self.migration(id).await?),
                _ => false,
            };
            if over {
                return Ok(());
            }
        }
        Err(ClientError::Unreachable { url: self.url().to_owned(), why: "it closed the event stream".to_owned() })
    }
}
