//! Source: the container's files, sent in rounds while it runs and once more in the freeze.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fog_api::agent::{FailureKind, Stage};
use serde_json::Value;
use tokio::sync::mpsc;

use super::failure::Cause;
use super::inspect::{id_of, init_of};
use super::volumes::{self, LAYER};
use super::{Inner, Reporter, bind_mounts, blocking};
use crate::files::{FileError, Listed, Listing, Piece, Root, Sent, Tree};
use crate::transfer::Outgoing;

/// Rounds while the container runs; a later one would find as much as the last.
const MOST_ROUNDS: u32 = 3;

/// So much may be left for the freeze without another round.
const LITTLE_BYTES: u64 = 1 << 20;

/// A silent stream counts as broken after `transfer::IDLE`; this is well below.
const ALIVE: Duration = Duration::from_secs(5);

/// Pieces that are read ahead of the network.
const AHEAD: usize = 16;

/// The trees of a container: its writable layer, then its volumes.
pub(super) struct FilesOut {
    container: String,
    trees: Vec<Tree>,
    /// The storage driver does not show what differs; Docker is asked before every round.
    ask_docker: bool,
}

impl FilesOut {
    /// Finds the trees. Sends nothing yet.
    pub(super) async fn of(inner: &Arc<Inner>, inspect: &Value) -> Result<FilesOut, Cause> {
        let container = id_of(inspect)?;
        let init = init_of(inspect).ok_or_else(|| Cause::gone("The container has no process."))?;
        let volumes = [volumes::copied(inspect), bind_mounts::folders(inspect)].concat();
        let opened = blocking(move || {
            let upper = std::fs::read_to_string(format!("/proc/{init}/mountinfo")).ok();
            let upper = upper.and_then(|mounts| Root::open(&upper_folder(&mounts)?).ok());
            let ask_docker = upper.is_none();
            let listing = upper.map_or(Listing::Given(Vec::new()), Listing::Upper);
            let root = Root::open(Path::new(&format!("/proc/{init}/root")))?;
            let mut trees = vec![Tree::new(LAYER, root, listing)];
            for (place, folder) in volumes {
                trees.push(Tree::new(&place, Root::open(&folder)?, Listing::All));
            }
            Ok::<_, std::io::Error>((trees, ask_docker))
        });
        let (trees, ask_docker) =
            opened.await?.map_err(|error| Cause::node("The container's files cannot be opened", &error))?;
        let mut files = FilesOut { container, trees, ask_docker };
        files.list(inner).await?;
        Ok(files)
    }

    /// What there is to send, as the disk counts it.
    pub(super) async fn bytes(self) -> Result<u64, Cause> {
        let counted = blocking(move || {
            let mut bytes = 0;
            for tree in &self.trees {
                bytes += tree.listed_bytes()?;
            }
            Ok::<_, FileError>(bytes)
        });
        counted.await?.map_err(|error| Cause::node("The container's files cannot be counted", &error))
    }

    /// Sends everything, and then what has changed meanwhile, until little is left or that does not help.
    pub(super) async fn while_running(
        &mut self,
        inner: &Arc<Inner>,
        outgoing: &mut Outgoing,
        peer: &str,
        reporter: &Reporter,
    ) -> Result<(), Cause> {
        for _ in 0..MOST_ROUNDS {
            let sent = self.round(inner, false, outgoing, peer, Some(reporter)).await?;
            outgoing.ask().await.map_err(Cause::transfer(peer))?;
            if sent.bytes < LITTLE_BYTES {
                break;
            }
        }
        Ok(())
    }

    /// Sends what has changed since then. The container is frozen.
    pub(super) async fn rest(&mut self, inner: &Arc<Inner>, outgoing: &mut Outgoing, peer: &str) -> Result<(), Cause> {
        let sent = self.round(inner, true, outgoing, peer, None).await?;
        tracing::info!(container = self.container, changes = sent.changes, bytes = sent.bytes, "files in the freeze");
        Ok(())
    }

    async fn list(&mut self, inner: &Arc<Inner>) -> Result<(), Cause> {
        if !self.ask_docker {
            return Ok(());
        }
        let changed = inner.docker.changed_files(&self.container).await;
        let changed = changed.map_err(Cause::docker("list the changed files"))?;
        let listed =
            changed.into_iter().map(|(path, clear)| Listed { path: path.trim_start_matches('/').into(), clear });
        if let Some(layer) = self.trees.first_mut() {
            layer.set_listing(Listing::Given(listed.collect()));
        }
        Ok(())
    }

    /// One round over all trees: a thread reads ahead of the network.
    async fn round(
        &mut self,
        inner: &Arc<Inner>,
        frozen: bool,
        outgoing: &mut Outgoing,
        peer: &str,
        reporter: Option<&Reporter>,
    ) -> Result<Sent, Cause> {
        self.list(inner).await?;
        let mut trees = std::mem::take(&mut self.trees);
        let (sender, mut pieces) = mpsc::channel::<Piece>(AHEAD);
        let span = tracing::Span::current();
        let reading = tokio::task::spawn_blocking(move || {
            let _inside = span.entered();
            let mut sent = Sent::default();
            for tree in &mut trees {
                match tree.round(frozen, &mut |piece| sender.blocking_send(piece).map_err(|_| FileError::Ended)) {
                    Ok(more) => sent += more,
                    Err(error) => return (trees, Err(error)),
                }
            }
            (trees, Ok(sent))
        });
        let before = outgoing.content_bytes();
        loop {
            match tokio::time::timeout(ALIVE, pieces.recv()).await {
                Ok(Some(piece)) => outgoing.piece(&piece).await,
                Ok(None) => break,
                Err(_) => outgoing.alive().await,
            }
            .map_err(Cause::transfer(peer))?;
            if let Some(reporter) = reporter {
                reporter.tell(Stage::Sync, outgoing.content_bytes() - before, None);
            }
        }
        let (trees, sent) = reading
            .await
            .map_err(|error| Cause::new(FailureKind::Node, format!("The agent failed in this step: {error}.")))?;
        self.trees = trees;
        sent.map_err(|error| Cause::node("The container's files could not be read", &error))
    }
}

/// Where overlay keeps what differs from the image, out of the container's `mountinfo`.
pub(crate) fn upper_folder(mountinfo: &str) -> Option<PathBuf> {
    let root = mountinfo.lines().find(|line| line.split(' ').nth(4) == Some("/"))?;
    let (_, file_system) = root.split_once(" - ")?;
    let mut fields = file_system.split(' ');
    if fields.next() != Some("overlay") {
        return None;
    }
    let options = fields.nth(1)?;
    if redirects(options) {
        // A renamed directory's own content stays below under its old name; Docker's list is complete.
        return None;
    }
    let upper = options.split(',').find_map(|option| option.strip_prefix("upperdir="))?;
    // An escaped or relative name is left to Docker to find.
    (upper.starts_with('/') && !upper.contains('\\')).then(|| PathBuf::from(upper))
}

/// Whether overlay renames directories without copying them. What is the kernel module's default is not shown.
fn redirects(options: &str) -> bool {
    match options.split(',').find_map(|option| option.strip_prefix("redirect_dir=")) {
        Some(mode) => mode == "on",
        None => {
            std::fs::read_to_string("/sys/module/overlay/parameters/redirect_dir").is_ok_and(|text| text.trim() == "Y")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upper_folder_is_found() {
        let line = |options: &str| {
            format!("1 2 0:9 / /x rw - tmpfs t rw\n3 2 0:5 / / rw,relatime master:1 - overlay overlay {options}\n")
        };
        let found = upper_folder(&line("rw,lowerdir=/a:/b,upperdir=/var/lib/docker/o/diff,workdir=/w"));
        assert_eq!(found, Some("/var/lib/docker/o/diff".into()));
        assert_eq!(upper_folder(&line("rw,upperdir=/o/diff,redirect_dir=on")), None);
        assert_eq!(upper_folder(&line("rw,lowerdir=l/a,upperdir=o/diff,workdir=w")), None);
        assert_eq!(upper_folder("3 2 0:5 / / rw - ext4 /dev/vda rw,upperdir=/x"), None);
    }
}
