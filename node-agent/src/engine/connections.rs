//! TCP connections: kept where the container's address follows it, closed at once elsewhere.
//!
//! Kept: the source's network is closed from the freeze until the container thaws or is gone, the destination's from
//! before its interfaces appear until the container is continued. What clients send meanwhile is caught at the source,
//! travels with the images, and is delivered when the container runs: they wait for no back-off.
//!
//! Closed: CRIU leaves connections out, and the restored process sees them ended. At the source they end with the
//! container, after the commit, and the kernel tells the other ends.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;

use super::failure::Cause;
use super::images::Folder;
use super::{Inner, blocking, lock};

/// What becomes of the connections that images hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// They are in the images, and the address follows.
    Kept,
    /// They are in the images, and both ends are in the container.
    Internal,
    /// They are not in the images.
    Closed,
}

const FATES: [(Fate, &str); 3] = [
    (Fate::Kept, "fogshift-connections-kept.img"),
    (Fate::Internal, "fogshift-connections-internal.img"),
    (Fate::Closed, "fogshift-connections-closed.img"),
];

impl Fate {
    /// Marks images; nothing that CRIU writes shows it.
    pub(super) fn mark(self, images: &Path) -> std::io::Result<()> {
        let name = FATES.iter().find(|(fate, _)| *fate == self).map_or("", |(_, name)| name);
        std::fs::write(images.join(name), "")
    }

    /// How images are marked.
    pub(super) fn of(images: &Path) -> Fate {
        FATES.iter().find(|(_, name)| images.join(name).exists()).map_or(Fate::Closed, |(fate, _)| *fate)
    }

    /// The connections are in the images.
    pub(super) const fn established(self) -> bool {
        matches!(self, Fate::Kept | Fate::Internal)
    }

    /// The line for CRIU's configuration file that runc has no flag for.
    pub(super) const fn option(self) -> &'static str {
        match self {
            Fate::Kept | Fate::Internal => "",
            Fate::Closed => "tcp-close\n",
        }
    }
}

/// What was caught for containers that this node has frozen.
pub(super) type Catches = std::sync::Mutex<HashMap<Uuid, fog_netns::Catch>>;

/// What clients sent during the freeze, among the images.
const CAUGHT: &str = "fogshift-caught.img";

/// Source: closes the network of a container whose address will follow it.
pub(super) async fn close(inner: &Inner, migration: Uuid, init: Option<i32>) -> Result<(), Cause> {
    let pid = pid(init).ok_or_else(|| Cause::gone("The container has no process any more."))?;
    let catch = blocking(move || fog_netns::close_and_catch(pid)).await?;
    let catch = catch.map_err(|error| Cause::node("The container's network could not be closed", &error))?;
    lock(&inner.catches).insert(migration, catch);
    Ok(())
}

/// Source: puts what was caught so far among the images.
pub(super) fn save(inner: &Inner, migration: Uuid, folder: &Folder) -> Result<(), Cause> {
    let caught = lock(&inner.catches).get(&migration).map(fog_netns::Catch::take);
    let saved = match caught {
        Some(packets) => packets.and_then(|packets| std::fs::write(folder.images().join(CAUGHT), packets)),
        None => Ok(()),
    };
    saved.map_err(|error| Cause::node("What was sent during the freeze could not be kept", &error))
}

/// Source, after the commit: nothing is caught any more. The network stays closed until it is gone.
pub(super) fn forget(inner: &Inner, migration: Uuid) {
    lock(&inner.catches).remove(&migration);
}

/// Source, rolling back, before the container thaws: its network opens. Returns what to deliver once it has.
pub(super) async fn reopen(
    inner: &Inner,
    migration: Uuid,
    init: Option<i32>,
    folder: &Folder,
) -> Result<Vec<u8>, Cause> {
    let catch = lock(&inner.catches).remove(&migration);
    // What was taken for the images is still among them.
    let mut caught = std::fs::read(folder.images().join(CAUGHT)).unwrap_or_default();
    caught.extend(catch.and_then(|catch| catch.take().ok()).unwrap_or_default());
    open(init).await?;
    Ok(caught)
}

/// Opens a network.
pub(super) async fn open(init: Option<i32>) -> Result<(), Cause> {
    let Some(pid) = pid(init) else { return Ok(()) };
    let opened = blocking(move || fog_netns::open(pid)).await?;
    opened.map_err(|error| Cause::node("The container's network could not be opened", &error))
}

/// Tells the neighbours where the container is and delivers what was caught. Both only save time: a failure is logged.
pub(super) async fn speak(inner: &Arc<Inner>, init: Option<i32>, caught: Vec<u8>) {
    let Some(pid) = pid(init) else { return };
    let spoken = blocking(move || {
        let announced = fog_netns::announce(pid);
        (announced, fog_netns::replay(pid, caught))
    });
    match spoken.await {
        Ok((Ok(()), Ok(delivered))) => tracing::info!(node = inner.config.node, delivered, "the address is announced"),
        Ok((announced, delivered)) => {
            tracing::warn!(?announced, ?delivered, "the neighbours may find out by themselves")
        }
        Err(cause) => tracing::warn!("{}", cause.message()),
    }
}

/// What came with the images.
pub(super) fn caught(images: &Path) -> Vec<u8> {
    std::fs::read(images.join(CAUGHT)).unwrap_or_default()
}

fn pid(init: Option<i32>) -> Option<u32> {
    init.and_then(|init| u32::try_from(init).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_say_what_becomes_of_their_connections() {
        for (fate, _) in FATES {
            let folder = tempfile::tempdir().expect("a folder");
            fate.mark(folder.path()).expect("marked");
            assert_eq!(Fate::of(folder.path()), fate);
        }
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(Fate::of(folder.path()), Fate::Closed, "images of an older agent hold none");
    }
}
