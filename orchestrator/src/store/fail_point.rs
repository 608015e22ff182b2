//! Tests make the orchestrator die at a chosen write of the ledger: `FOG_DIE_AT=before:3` ends the process at once, with
//! nothing run after it, before the third transaction commits; `after:3` right after it has. Not in release builds.

use std::sync::atomic::{AtomicU32, Ordering};

static WRITES: AtomicU32 = AtomicU32::new(0);

/// A transaction is about to commit.
pub(super) fn before() {
    let write = WRITES.fetch_add(1, Ordering::SeqCst) + 1;
    die_at("before", write);
}

/// It has.
pub(super) fn after() {
    die_at("after", WRITES.load(Ordering::SeqCst));
}

fn die_at(moment: &str, write: u32) {
    if std::env::var("FOG_DIE_AT").is_ok_and(|wanted| wanted == format!("{moment}:{write}")) {
        std::process::abort();
    }
}
