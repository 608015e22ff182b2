//! The socket on which fog-runc asks what to do with a container that was created by a migration.
//!
//! One JSON line each way. fog-runc keeps the connection while it waits, so that it notices when the agent ends.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fog_api::agent::Role;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tracing::Instrument;

use super::restore::Verdict;
use super::{Engine, Inner, blocking, lock};
use crate::files::Root;

/// The socket's name in the run directory.
const NAME: &str = "fog-runc.sock";

/// fog-runc's question.
#[derive(Debug, Deserialize)]
struct Question {
    container: String,
    /// Where the container's root is mounted, as fog-runc sees it.
    rootfs: Option<PathBuf>,
}

impl Engine {
    /// Answers fog-runc, for ever. Returns only when the socket cannot be made.
    pub async fn serve_runtime(&self) -> std::io::Result<()> {
        let path = self.0.config.run_dir.join(NAME);
        let listener = listen(&path)?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let inner = Arc::clone(&self.0);
                    let span = tracing::error_span!("fog-runc", migration = tracing::field::Empty);
                    let answering = async move {
                        if let Err(error) = answer(&inner, stream).await {
                            tracing::warn!(%error, "fog-runc did not get its answer");
                        }
                    };
                    tokio::spawn(answering.instrument(span));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot take fog-runc's connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

fn listen(path: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(PathBuf::from(path), std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn answer(inner: &Arc<Inner>, stream: UnixStream) -> std::io::Result<()> {
    let caller = stream.peer_cred()?.pid();
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader.take(4096));
    let mut line = String::new();
    tokio::time::timeout(Duration::from_secs(5), reader.read_line(&mut line)).await??;
    let question: Question = serde_json::from_str(&line)?;
    if let Some(migration) = migration_of(inner, &question.container) {
        tracing::Span::current().record("migration", tracing::field::display(migration));
    }
    if let (Some(pid), Some(rootfs)) = (caller, &question.rootfs) {
        let seen = PathBuf::from(format!("/proc/{pid}/root{}", rootfs.display()));
        match blocking(move || Root::open(&seen)).await {
            Ok(Ok(root)) => inner.files.mounted(&question.container, root),
            Ok(Err(error)) => {
                tracing::warn!(%error, rootfs = %rootfs.display(), "the container's root cannot be opened")
            }
            Err(cause) => tracing::warn!("{}", cause.message()),
        }
    }
    let verdict = match inner.restores.watch(&question.container) {
        Some(mut verdict) => {
            // A second line never comes; reading notices that fog-runc is gone.
            let mut nothing = String::new();
            tokio::select! {
                verdict = verdict.wait_for(Option::is_some) => verdict.ok().and_then(|verdict| verdict.clone()),
                _ = reader.read_line(&mut nothing) => return Ok(()),
            }
        }
        None => None,
    };
    let verdict = verdict.unwrap_or_else(|| without_restore(inner, &question.container));
    let mut line = serde_json::to_vec(&verdict)?;
    line.push(b'\n');
    tokio::time::timeout(Duration::from_secs(5), writer.write_all(&line)).await?
}

/// The unfinished migration that brings this container.
fn migration_of(inner: &Inner, container: &str) -> Option<uuid::Uuid> {
    let journal = lock(&inner.journal);
    let mut open = journal.iter().filter(|record| !record.closed);
    open.find(|record| record.container.as_deref() == Some(container)).map(|record| record.migration)
}

/// What to do when no restore is under way.
fn without_restore(inner: &Inner, container: &str) -> Verdict {
    let journal = lock(&inner.journal);
    let mut records = journal.iter().filter(|record| record.role == Role::Destination);
    match records.find(|record| record.container.as_deref() == Some(container)) {
        Some(record) if !record.resumed && !record.closed => Verdict::Refuse {
            reason: format!("migration {} has not given this container to this node yet", record.migration),
        },
        _ => Verdict::Create,
    }
}
