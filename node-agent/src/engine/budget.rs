//! Whether memory gets over the link within the freeze that the workload bears: measured before the freeze, not assumed.

use std::time::Instant;

use super::failure::Cause;
use super::memory::{FIXED_MS, Move};
use crate::transfer::Outgoing;

/// Less memory than this crosses any link that is worth moving over.
const LITTLE: u64 = 1 << 20;

/// Sent first; a link that takes long for it is slow, and known by it.
const FIRST: u64 = 128 << 10;
/// Sent next, unless that would take long.
const SECOND: u64 = 1 << 20;
const LONG_S: f64 = 0.5;
/// What is sent first may fit into a shaper's burst: only a rate with so much to spare is believed at once.
const DOUBT: f64 = 10.0;

/// Refuses a stop-and-copy that would freeze the container for longer than it bears.
pub(super) async fn fits(
    to: &Move<'_>,
    outgoing: &mut Outgoing,
    memory_bytes: u64,
    max_downtime_ms: u64,
) -> Result<(), Cause> {
    if memory_bytes <= LITTLE {
        return Ok(());
    }
    let node = &to.destination.node;
    let mut rate = 0.0;
    for bytes in [FIRST, SECOND] {
        let began = Instant::now();
        outgoing.pad(bytes).await.map_err(Cause::transfer(node))?;
        outgoing.ask().await.map_err(Cause::transfer(node))?;
        to.inner.bandwidth.learn(node, bytes, began.elapsed());
        let took_s = began.elapsed().as_secs_f64();
        rate = bytes as f64 / took_s.max(1e-6);
        if took_s > LONG_S || freeze_ms(memory_bytes, rate / DOUBT) <= max_downtime_ms as f64 {
            break;
        }
    }
    let expected_ms = freeze_ms(memory_bytes, rate);
    if expected_ms <= max_downtime_ms as f64 {
        return Ok(());
    }
    Err(Cause::refused(format!(
        "Its {:.0} MiB of memory would take a freeze of {:.1} s: the link to {node} carries {:.1} MB/s at the moment, and \
         {max_downtime_ms} ms are allowed. Allow a longer freeze (label fogshift.max-downtime-ms), or post-copy (label \
         fogshift.post-copy=allowed), or ask for pre-copy.",
        memory_bytes as f64 / f64::from(1 << 20),
        expected_ms / 1e3,
        rate / 1e6,
    )))
}

/// How long memory takes in the freeze, at so many bytes a second.
fn freeze_ms(memory_bytes: u64, rate: f64) -> f64 {
    FIXED_MS + memory_bytes as f64 / rate * 1e3
}
