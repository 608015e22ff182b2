//! The one place where the orchestrator asks what time it is.

use jiff::Timestamp;

/// Now, to the millisecond: what the store keeps.
pub fn now() -> Timestamp {
    Timestamp::from_millisecond(Timestamp::now().as_millisecond()).unwrap_or(Timestamp::UNIX_EPOCH)
}
