//! How fast a running process writes to its memory, by sampling: some of its pages are read twice.
//!
//! It needs nothing from the kernel and stops nobody; a thousand pages read three times cost a few milliseconds. Pages that
//! were written count once, however often they were written, as they do for pre-copy. What was read is hashed and forgotten.

use std::time::{Duration, Instant};

use xxhash_rust::xxh3::xxh3_64;

use super::kernel::{page_size, read_memory};
use super::scan::resident;

/// Pages that are read.
const SAMPLES: u64 = 1024;

/// Between two readings: short for those that write much, longer for those that write little.
const SHORT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_millis(450);

/// Of so many changed pages a short reading can tell; of fewer a longer one can.
const TELLING: u64 = 32;

/// Bytes a second; `None` where there is no such process. Blocking, for at most half a second.
pub fn bytes_per_s(pid: i32) -> Option<u64> {
    let ranges = resident(pid).ok()?;
    let pages: u64 = ranges.iter().map(|(_, len)| len / page_size()).sum();
    let step = (pages / SAMPLES).max(1);
    let mut places = Vec::new();
    let mut before: u64 = 0;
    for (start, len) in ranges {
        let count = len / page_size();
        let first = before.next_multiple_of(step) - before;
        places.extend((first..count).step_by(step.try_into().ok()?).map(|page| start + page * page_size()));
        before += count;
    }
    if places.is_empty() {
        return Some(0);
    }
    let mut page = vec![0; page_size() as usize];
    // A page that is gone has the hash of nothing.
    let mut hash = |place: &u64| read_memory(pid, *place, &mut page).map_or(0, |_| xxh3_64(&page));
    let began = Instant::now();
    let first: Vec<u64> = places.iter().map(&mut hash).collect();
    let mut changed = 0;
    for pause in [SHORT, LONG] {
        std::thread::sleep(pause);
        changed = places.iter().zip(&first).filter(|(place, was)| hash(place) != **was).count() as u64;
        if changed >= TELLING {
            break;
        }
    }
    Some(rate(changed, places.len() as u64, pages * page_size(), began.elapsed()))
}

/// Of pages that are written at random, some are written twice: what is seen grows ever slower.
fn rate(changed: u64, sampled: u64, bytes: u64, took: Duration) -> u64 {
    let share = changed as f64 / sampled as f64;
    let share = share.min(1.0 - 0.5 / sampled as f64);
    (-(1.0 - share).ln() * bytes as f64 / took.as_secs_f64()) as u64
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use super::*;

    #[test]
    fn what_is_seen_twice_counts_more() {
        let second = Duration::from_secs(1);
        assert_eq!(rate(0, 1000, 1 << 30, second), 0);
        let little = rate(10, 1000, 1 << 30, second);
        assert!((little as f64 / (0.01 * (1 << 30) as f64) - 1.0).abs() < 0.02, "{little}");
        assert!(rate(900, 1000, 1 << 30, second) > 2 << 30);
        assert!(rate(1000, 1000, 1 << 30, second) < 8 << 30, "no more can be said");
    }

    /// This process writes a quarter of its memory over and over: at least that much is seen, and when it rests, little.
    #[test]
    fn writing_is_told_from_resting() {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let (stop, beat) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ended, beats) = (Arc::clone(&stop), Arc::clone(&beat));
        let writer = std::thread::spawn(move || {
            let mut memory = vec![1_u8; 64 << 20];
            while !ended.load(Ordering::Relaxed) {
                let now = beats.fetch_add(1, Ordering::Relaxed) as u8;
                memory.iter_mut().step_by(4096).for_each(|byte| *byte = now);
            }
            black_box(&memory);
        });
        while beat.load(Ordering::Relaxed) < 2 {
            std::thread::yield_now();
        }
        let busy = bytes_per_s(own).expect("this process");
        stop.store(true, Ordering::Relaxed);
        writer.join().expect("the writer");
        assert!(busy > 32 << 20, "{busy} bytes a second");
        assert_eq!(bytes_per_s(i32::MAX), None);
    }
}
