//! What moves besides memory: trees of files, brought over in rounds.
//!
//! ```text
//! source                                             destination
//!   scan: which paths may differ (upper layer, or all)
//!   tree: what differs from what was sent ── changes ──► apply: into the tree, never outside of it
//! ```
//!
//! The first round sends everything while the container runs; a later one sends what a file's inode says has changed
//! since, and of a large file only the blocks that did. The round in the freeze is like any other, only the last.
//! Nothing here knows Docker: a tree is a folder's descriptor, and a path never leads out of it through a link.

mod apply;
mod change;
mod node;
mod root;
mod scan;
#[cfg(test)]
mod tests;
mod tree;

pub use apply::Applier;
pub use change::{Change, Metadata};
pub use root::Root;
pub use scan::{Listed, Listing};
pub use tree::{Sent, Tree};

use std::path::{Path, PathBuf};

/// A piece of a round, as it travels: an encoded [`Change`], or content of the file that the last one named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// See [`Change`].
    Change(Vec<u8>),
    /// Content that begins there.
    Block {
        /// Where in the file.
        offset: u64,
        /// What.
        content: Vec<u8>,
    },
    /// Part of the image's archive; comes before all trees.
    Archive(Vec<u8>),
}

/// Files are compared, and sent, in blocks of this size.
pub const BLOCK: usize = 64 << 10;

/// A file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system said no.
    #[error("{path} could not be {done}: {source}")]
    Path {
        /// Which.
        path: PathBuf,
        /// What was to be done with it.
        done: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// The other end sent something that makes no sense, or reaches out of its tree.
    #[error("the changes are damaged: {0}")]
    Damaged(&'static str),
    /// Whoever takes the changes is gone.
    #[error("nobody takes the changes any more")]
    Ended,
}

impl FileError {
    fn at<E: Into<std::io::Error>>(path: &Path, done: &'static str) -> impl FnOnce(E) -> FileError {
        let path = Path::new("/").join(path);
        move |source| FileError::Path { path, done, source: source.into() }
    }
}
