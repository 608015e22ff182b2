//! Keeps what the orchestrator logs about a migration: every event of tracing that has a field `migration` is also a line
//! of that migration's own log, whatever the level of the process's log is.

use std::fmt::Write;
use std::sync::OnceLock;

use fog_api::migration::LogLine;
use tokio::sync::mpsc;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use uuid::Uuid;

use crate::app::App;
use crate::clock;

/// So many lines may wait for the store; more are only in the process's log.
const WAITING: usize = 4096;

static LINES: OnceLock<mpsc::Sender<(Uuid, LogLine)>> = OnceLock::new();

/// The layer for the process's subscriber. It does nothing until [`keep`] runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct MigrationLines;

impl<S: Subscriber> Layer<S> for MigrationLines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let Some(lines) = LINES.get() else { return };
        let level = *event.metadata().level();
        if level > Level::DEBUG {
            return;
        }
        let mut said = Said::default();
        event.record(&mut said);
        if let Some(migration) = said.migration {
            let level = level.as_str().to_lowercase();
            let message = format!("{}{}", said.message, said.fields);
            // The process's log has the line in any case.
            let _ = lines.try_send((migration, LogLine { at: clock::now(), level, message }));
        }
    }
}

#[derive(Default)]
struct Said {
    migration: Option<Uuid>,
    message: String,
    fields: String,
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        match field.name() {
            "migration" => self.migration = format!("{value:?}").parse().ok(),
            "message" => self.message = format!("{value:?}"),
            name => {
                // Writing to a string does not fail.
                let _ = write!(self.fields, " {name}={value:?}");
            }
        }
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
