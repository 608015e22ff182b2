//! Keeps what is logged about a migration, here and by its two agents: `GET /v1/migrations/{id}/log`.

use std::sync::OnceLock;

use fog_api::migration::LogLine;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::app::App;

/// So many lines may wait for the store; more are only in the process's log.
const WAITING: usize = 4096;
/// No line that is kept has more characters.
const LONGEST: usize = 2000;

static LINES: OnceLock<mpsc::Sender<(Uuid, LogLine)>> = OnceLock::new();

/// Takes a line, to be stored. Before [`keep`] runs it does nothing: the process's log has the line in any case.
pub fn collect(migration: Uuid, mut line: LogLine) {
    if let Some((at, _)) = line.message.char_indices().nth(LONGEST) {
        line.message.truncate(at);
    }
    if let Some(lines) = LINES.get() {
        let _ = lines.try_send((migration, line));
    }
}

/// Writes the lines to the store until the service ends.
pub async fn keep(app: App) {
    let (sender, mut lines) = mpsc::channel(WAITING);
    if LINES.set(sender).is_err() {
        return; // a process has one service
    }
    let mut batch = Vec::new();
    loop {
        let count = tokio::select! {
            count = lines.recv_many(&mut batch, 256) => count,
            () = app.shutdown.cancelled() => return,
        };
        if count == 0 {
            return;
        }
        if let Err(error) = app.store.add_lines(&batch).await {
            tracing::error!("cannot keep the log of migrations: {error}");
        }
        batch.clear();
    }
}
