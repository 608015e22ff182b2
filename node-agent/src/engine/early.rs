//! What is known of the images before there are any, so that the destination can start runc while the container still
//! runs at the source.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// Among the images, and there first.
const NAME: &str = "fogshift-early.img";

/// Written by runc before it calls CRIU; at the destination it is the only image that runc itself reads.
const DESCRIPTORS: &str = "descriptors.json";

/// What runc has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Early {
    /// The images will hold a network namespace.
    pub(super) network: bool,
    /// They will say which cgroups the tasks were in.
    pub(super) cgroups: bool,
    /// Connections are kept: nothing may come in or go out before the container is continued.
    pub(super) closed_network: bool,
}

impl Early {
    /// Source: puts it among the images; the names of those that go ahead.
    pub(super) fn write(self, images: &Path) -> std::io::Result<[&'static str; 2]> {
        std::fs::write(images.join(NAME), serde_json::to_vec(&self)?)?;
        Ok([NAME, DESCRIPTORS])
    }

    /// Destination: what came ahead.
    pub(super) fn read(images: &Path) -> std::io::Result<Early> {
        Ok(serde_json::from_slice(&std::fs::read(images.join(NAME))?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_arrives_as_it_left() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(Early::read(folder.path()).is_err());
        let early = Early { network: true, cgroups: false, closed_network: true };
        early.write(folder.path()).expect("written");
        assert_eq!(Early::read(folder.path()).expect("read"), early);
    }
}
