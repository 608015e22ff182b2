//! Destination: trees of files go to their places while the stream still comes.
//!
//! The container's own tree exists once Docker has mounted it, which fog-runc tells together with its question; volumes
//! exist since the reservation.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::failure::Cause;
use super::volumes::LAYER;
use super::{Inner, lock};
use crate::files::{Applier, Change, FileError, Piece, Root};
use crate::transfer::{Delivered, Delivery};

/// Pieces that may wait for the disk.
const WAITING: usize = 64;

/// One migration's trees.
#[derive(Debug)]
struct Places {
    container: String,
    layer: watch::Sender<Option<Arc<Root>>>,
    volumes: HashMap<String, PathBuf>,
    cancel: CancellationToken,
    ended: watch::Sender<bool>,
}

/// Trees that are being received.
#[derive(Debug, Default)]
pub(super) struct FilesIn(Mutex<HashMap<Uuid, Arc<Places>>>);

impl FilesIn {
    /// Takes what an expected stream brings. `volumes`: the folder of each, by the place where it is mounted.
    pub(super) fn begin(&self, inner: &Inner, migration: Uuid, container: &str, volumes: HashMap<String, PathBuf>) {
        let (pieces, receiver) = mpsc::channel(WAITING);
        let fault = Arc::new(OnceLock::new());
        let places = Arc::new(Places {
            container: container.to_owned(),
            layer: watch::Sender::new(None),
            volumes,
            cancel: CancellationToken::new(),
            ended: watch::Sender::new(false),
        });
        lock(&self.0).insert(migration, Arc::clone(&places));
        inner.arrivals.deliver(migration, Delivery { pieces, fault: Arc::clone(&fault) });
        tokio::task::spawn_blocking(move || {
            let mut receiver = receiver;
            if let Err(error) = places.take_in(&mut receiver) {
                tracing::warn!(%migration, %error, "files could not be put in place");
                drop(fault.set(error.to_string()));
            }
            drop(receiver);
            places.ended.send_replace(true);
        });
    }

    /// The container's own tree is there.
    pub(super) fn mounted(&self, container: &str, root: Root) {
        let known = lock(&self.0).values().find(|places| places.container == container).cloned();
        if let Some(places) = known {
            places.layer.send_replace(Some(Arc::new(root)));
        }
    }

    /// Returns when nothing is written any more.
    pub(super) async fn end(&self, migration: Uuid) {
        let known = lock(&self.0).remove(&migration);
        if let Some(places) = known {
            places.cancel.cancel();
            drop(places.ended.subscribe().wait_for(|ended| *ended).await);
        }
    }
}

impl Places {
    fn take_in(&self, pieces: &mut mpsc::Receiver<Delivered>) -> Result<(), FileError> {
        let mut applier = Applier::default();
        while let Some(delivered) = pieces.blocking_recv() {
            if self.cancel.is_cancelled() {
                return Err(FileError::Ended);
            }
            match delivered {
                Delivered::Piece(Piece::Change(change)) => match Change::decode(&change)? {
                    Change::Tree(name) => applier.enter(self.tree(&name)?)?,
                    change => applier.change(change)?,
                },
                Delivered::Piece(Piece::Block { offset, content }) => applier.block(offset, &content)?,
                Delivered::Ask(reached) => {
                    applier.close()?;
                    // Nobody waits any more when the stream broke.
                    let _ = reached.send(());
                }
            }
        }
        Ok(())
    }

    fn tree(&self, name: &str) -> Result<Arc<Root>, FileError> {
        if name == LAYER {
            let mut layer = self.layer.subscribe();
            return tokio::runtime::Handle::current().block_on(async {
                tokio::select! {
                    () = self.cancel.cancelled() => Err(FileError::Ended),
                    root = layer.wait_for(Option::is_some) => {
                        root.ok().and_then(|root| root.clone()).ok_or(FileError::Ended)
                    }
                }
            });
        }
        let folder = self.volumes.get(name).ok_or(FileError::Damaged("a volume that the container does not have"))?;
        Root::open(folder).map(Arc::new).map_err(|source| FileError::Path {
            path: folder.clone(),
            done: "opened",
            source,
        })
    }
}

/// Refuses when the disk below Docker has no room for the files.
pub(super) async fn room(inner: &Inner, bytes: u64) -> Result<Option<String>, Cause> {
    let folder = inner.docker.data_dir().await.map_err(Cause::docker("say where its data is"))?;
    let place = rustix::fs::statvfs(&folder)
        .map_err(|error| Cause::node(&format!("{} cannot be looked at", folder.display()), &error))?;
    let free = place.f_bavail.saturating_mul(place.f_frsize);
    // A disk that is filled to the brim stops more than this container.
    let needed = bytes + bytes / 20 + (64 << 20);
    Ok((free < needed).then(|| {
        format!(
            "The container's files need {} MiB, but {} on {} has {} MiB free; make room there.",
            needed >> 20,
            folder.display(),
            inner.config.node,
            free >> 20
        )
    }))
}
