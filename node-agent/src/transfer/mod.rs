//! How memory images travel: straight from agent to agent, over one TCP connection a migration.
//!
//! ```text
//! source                                          destination
//!   | -- magic, version, migration, nonce ---------> |
//!   | <------------- nonce, proof of the ticket ---- |
//!   | -- proof of the ticket ----------------------> |  from here on every frame is sealed
//!   | -- Offer ------------------------------------> |
//!   | <------------------------- Wanted or Reached - |
//!   | -- Archive* (the image), Ask ----------------> |  only if it is wanted
//!   | -- File, Data*, EndOfFile (container's log) -> |
//!   | -- EndOfHistory -----------------------------> |  the workload still runs; Docker may be started
//!   | -- Change, Block* (files), Ask --------------> |  in rounds, until little is left
//!   | <---------------------------------- Reached -- |
//!   | -- File, Data*, EndOfFile (first images) ----> |
//!   | -- Prepared ---------------------------------> |  runc is started at both ends
//!   | <---------------------------------- Reached -- |
//!   | -- Change, Block*, Alive* -------------------> |  frozen, being dumped; the files' last round
//!   | -- File, Data*, EndOfFile (images) ----------> |
//!   | -- Finish ------------------------------------>|
//!   | <--------------------------------- Received -- |  or Rejected, with the reason
//! ```
//!
//! Both ends prove that they know the migration's ticket, and every frame carries a keyed BLAKE3 tag
//! over its number and content. CRIU trusts its images completely, so nothing reaches a file before
//! its tag was checked.

mod arrivals;
mod bandwidth;
mod handshake;
mod incoming;
mod link;
mod outgoing;
pub mod pages;
mod seal;
#[cfg(test)]
mod tests;
mod wire;

pub use arrivals::{AnswersPeers, Arrival, Arrivals, Delivered, Delivery, Received, TakesPages};
pub use bandwidth::Bandwidth;
pub use outgoing::{Outgoing, ask, page_link};
pub use seal::TicketKey;
pub use wire::{Kind, Stands};

use std::time::Duration;

/// No byte for this long means that the other end is gone.
pub const IDLE: Duration = Duration::from_secs(30);

/// Content of one data frame.
const CHUNK: usize = 256 << 10;

/// Why a stream did not get through.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The connection could not be made or broke.
    #[error("the connection {0}")]
    Connection(#[from] std::io::Error),
    /// Nothing came for too long.
    #[error("no byte came through for {} s", IDLE.as_secs())]
    Idle,
    /// The handshake failed.
    #[error("the other end {0}")]
    Handshake(&'static str),
    /// A frame that this version does not send.
    #[error("the stream is damaged: {0}")]
    Damaged(&'static str),
    /// The other end took everything but could not keep it.
    #[error("the destination rejected the stream: {0}")]
    Rejected(String),
    /// A file of this end could not be read or written.
    #[error("{0}")]
    File(String),
}
