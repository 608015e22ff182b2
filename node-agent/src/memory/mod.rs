//! How memory moves by itself: one way for all strategies. With stop-and-copy, what is small or shared between forked
//! processes stays in CRIU's own images.
//!
//! The source's processes are frozen and whole. CRIU dumps everything but their memory; the source's agent reads that
//! itself ([`outgoing`]) and sends it over connections of its own ([`crate::transfer::pages`]). At the destination CRIU
//! restores processes without memory, and the agent fills it in through userfaultfd ([`incoming`], [`filler`]). The
//! strategies differ in two things only:
//!
//! | strategy | rounds while the container runs | the commit |
//! |---|---|---|
//! | stop-and-copy | none | when nothing is missing |
//! | pre-copy | until little changes | when nothing is missing |
//! | post-copy | none | as soon as every process is restored |
//! | hybrid | until little changes | as soon as every process is restored |
//!
//! The source stays frozen until the destination has said that nothing is missing. Its memory cannot change, so a
//! connection that breaks is simply made anew and everything may be sent twice.

mod filler;
mod hidden;
mod incoming;
pub mod keeper;
mod kernel;
mod outgoing;
mod pagemap;
mod runs;
mod scan;
mod store;
mod writes;

pub use hidden::{Seen, keep_hidden};
pub use incoming::{FillStatus, PagesIn};
pub use outgoing::{PagesOut, Round, SendStatus, Source};
pub use scan::shared_bytes;
pub use writes::bytes_per_s as written_bytes_per_s;
