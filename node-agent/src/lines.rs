//! What this agent logs about migrations, on its way to the orchestrator: there it stands beside the other agent's lines and
//! the orchestrator's own.

use std::sync::{Mutex, OnceLock, PoisonError};

use fog_api::migration::LogLine;
use tokio::sync::mpsc;
use uuid::Uuid;

/// So many lines wait for a connection; more are only in this agent's own log.
const WAITING: usize = 512;

type Line = (Uuid, LogLine);

struct Queue {
    sender: mpsc::Sender<Line>,
    receiver: Mutex<Option<mpsc::Receiver<Line>>>,
}

static QUEUE: OnceLock<Queue> = OnceLock::new();

fn queue() -> &'static Queue {
    QUEUE.get_or_init(|| {
        let (sender, receiver) = mpsc::channel(WAITING);
        Queue { sender, receiver: Mutex::new(Some(receiver)) }
    })
}

/// Takes a line; never waits.
pub fn collect(migration: Uuid, line: LogLine) {
    let _ = queue().sender.try_send((migration, line));
}

/// The process's lines, for its one channel; whoever asks later gets none.
pub(crate) fn receiver() -> mpsc::Receiver<Line> {
    let taken = queue().receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
    taken.unwrap_or_else(|| mpsc::channel(1).1)
}
