//! Destination: trees of files go to their places while the stream still comes.
//!
//! The container's own tree exists once Docker has mounted it, which fog-runc tells together with its question; volumes
//! exist since the reservation.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use fog_api::agent::{Command, Specification};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use uuid::Uuid;

use super::failure::Cause;
use super::volumes::LAYER;
use super::{Inner, image, lock};
use crate::files::{Applier, Change, FileError, Piece, Root};
use crate::transfer::{Delivered, Delivery};

/// Pieces that may wait for the disk.
const WAITING: usize = 64;

/// One migration's trees.
#[derive(Debug)]
struct Places {
    container: watch::Sender<Option<String>>,
    layer: watch::Sender<Option<Arc<Root>>>,
    layer_wanted: watch::Sender<bool>,
    volumes: OnceLock<HashMap<String, PathBuf>>,
    cancel: CancellationToken,
    ended: watch::Sender<bool>,
}

/// Trees that are being received.
#[derive(Debug, Default)]
pub(super) struct FilesIn(Mutex<HashMap<Uuid, Arc<Places>>>);

impl FilesIn {
    /// Takes what an expected stream brings.
    pub(super) fn begin(
        &self,
        inner: &Arc<Inner>,
        command: &Command,
        specification: &Specification,
        wants_image: bool,
    ) {
        let (pieces, receiver) = mpsc::channel(WAITING);
        let fault = Arc::new(OnceLock::new());
        let places = Arc::new(Places {
            container: watch::Sender::new(None),
            layer: watch::Sender::new(None),
            layer_wanted: watch::Sender::new(false),
            volumes: OnceLock::new(),
            cancel: CancellationToken::new(),
            ended: watch::Sender::new(false),
        });
        let migration = command.migration;
        lock(&self.0).insert(migration, Arc::clone(&places));
        inner.arrivals.deliver(migration, Delivery { wants_image, pieces, fault: Arc::clone(&fault) });
        let expected =
            Expected { inner: Arc::clone(inner), command: command.clone(), specification: specification.clone() };
        let span = tracing::Span::current();
        tokio::task::spawn_blocking(move || {
            let _inside = span.entered();
            let mut receiver = receiver;
            if let Err(error) = places.take_in(&mut receiver, &expected) {
                tracing::warn!(%error, "files could not be put in place");
                drop(fault.set(error));
            }
            drop(receiver);
            places.ended.send_replace(true);
        });
    }

    /// The container is created. `volumes`: the folder of each, by the place where it is mounted.
    pub(super) fn placed(&self, migration: Uuid, container: &str, volumes: HashMap<String, PathBuf>) {
        let known = lock(&self.0).get(&migration).cloned();
        if let Some(places) = known {
            drop(places.volumes.set(volumes));
            places.container.send_replace(Some(container.to_owned()));
        }
    }

    /// The container, once it is created; `None` when that will not happen any more.
    pub(super) async fn container(&self, migration: Uuid, cancel: &CancellationToken) -> Option<String> {
        let places = lock(&self.0).get(&migration).cloned()?;
        let (mut container, mut ended) = (places.container.subscribe(), places.ended.subscribe());
        tokio::select! {
            biased;
            container = container.wait_for(Option::is_some) => container.ok()?.clone(),
            _ = ended.wait_for(|ended| *ended) => None,
            () = cancel.cancelled() => None,
        }
    }

    /// Returns when a change waits for the container's own tree, which only its start mounts.
    pub(super) async fn layer_wanted(&self, migration: Uuid) {
        let places = lock(&self.0).get(&migration).cloned();
        let Some(places) = places else { return std::future::pending().await };
        let _ = places.layer_wanted.subscribe().wait_for(|wanted| *wanted).await;
    }

    /// The container's own tree is there.
    pub(super) fn mounted(&self, container: &str, root: Root) {
        let known =
            lock(&self.0).values().find(|places| places.container.borrow().as_deref() == Some(container)).cloned();
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
    fn take_in(&self, pieces: &mut mpsc::Receiver<Delivered>, expected: &Expected) -> Result<(), String> {
        let mut applier = Applier::default();
        let mut image: Option<Loading> = None;
        let said = |error: FileError| error.to_string();
        while let Some(delivered) = pieces.blocking_recv() {
            if self.cancel.is_cancelled() {
                break;
            }
            match delivered {
                Delivered::Piece(Piece::Archive(content)) => {
                    let loading = image.get_or_insert_with(|| expected.load());
                    if loading.0.blocking_send(content).is_err() {
                        // Docker takes no more; it says why.
                        break;
                    }
                }
                Delivered::Piece(Piece::Change(change)) => match Change::decode(&change).map_err(said)? {
                    Change::Tree(name) => self.tree(&name).and_then(|tree| applier.enter(tree)).map_err(said)?,
                    change => applier.change(change).map_err(said)?,
                },
                Delivered::Piece(Piece::Block { offset, content }) => applier.block(offset, &content).map_err(said)?,
                Delivered::Ask(reached) => {
                    loaded(image.take())?;
                    applier.close().map_err(said)?;
                    // Nobody waits any more when the stream broke.
                    let _ = reached.send(());
                }
            }
        }
        loaded(image.take())
    }

    fn tree(&self, name: &str) -> Result<Arc<Root>, FileError> {
        if name == LAYER {
            self.layer_wanted.send_replace(true);
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
        let folder = self.volumes.get().and_then(|volumes| volumes.get(name));
        let folder = folder.ok_or(FileError::Damaged("a volume that the container does not have"))?;
        Root::open(folder).map(Arc::new).map_err(|source| FileError::Path {
            path: folder.clone(),
            done: "opened",
            source,
        })
    }
}

/// What a stream is for.
struct Expected {
    inner: Arc<Inner>,
    command: Command,
    specification: Specification,
}

/// An image on its way into Docker, and what comes of it.
type Loading = (mpsc::Sender<Vec<u8>>, tokio::task::JoinHandle<Result<(), Cause>>);

impl Expected {
    fn load(&self) -> Loading {
        let (archive, receiver) = mpsc::channel(WAITING);
        let (inner, command, specification) =
            (Arc::clone(&self.inner), self.command.clone(), self.specification.clone());
        let loading = async move { image::take_in(&inner, &command, &specification, receiver).await };
        (archive, tokio::runtime::Handle::current().spawn(loading.in_current_span()))
    }
}

/// Waits until Docker has the image and the container is created.
fn loaded(loading: Option<Loading>) -> Result<(), String> {
    let Some((archive, task)) = loading else { return Ok(()) };
    drop(archive);
    match tokio::runtime::Handle::current().block_on(task) {
        Ok(loaded) => loaded.map_err(|cause| cause.message().to_owned()),
        Err(error) => Err(error.to_string()),
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
