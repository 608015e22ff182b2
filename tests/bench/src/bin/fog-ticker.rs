//! The workload of the benchmark: holds noise, ticks every millisecond and says when a tick came late.
//!
//! `fog-ticker MIB [PAGES]`: with PAGES it changes so many pages in every tick, one after the other through all of its
//! memory.
//!
//! It measures its own gaps and prints only those, and a sign of life a second: a line every millisecond would measure
//! Docker's log instead.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const TICK: Duration = Duration::from_millis(1);
/// What a busy machine does to a millisecond's sleep is no gap.
const LATE: Duration = Duration::from_millis(5);
/// Words of a page.
const PAGE: usize = 512;

fn main() {
    let number = |at: usize| std::env::args().nth(at).and_then(|word| word.parse::<usize>().ok());
    let (mebibytes, pages) = (number(1).unwrap_or(4), number(2).unwrap_or(0));
    let mut noise = vec![0_u64; mebibytes << 17];
    let mut word = 88_172_645_463_325_252_u64;
    for place in &mut noise {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        *place = word;
    }
    let mut out = std::io::stdout();
    let mut tell = |line: String| {
        // A reader that is gone does not stop the clock.
        drop(out.write_all(line.as_bytes()).and_then(|()| out.flush()));
    };
    let (mut last, mut said, mut changed) = (now(), Duration::ZERO, 0_usize);
    for tick in 0_usize.. {
        std::thread::sleep(TICK);
        let now = now();
        let gap = now.saturating_sub(last);
        if gap >= LATE {
            tell(format!("gap {} {}\n", gap.as_micros(), last.as_micros()));
        } else if now.saturating_sub(said) > Duration::from_secs(1) {
            said = now;
            let byte = noise[tick * PAGE % noise.len().max(1)] & 0xff;
            tell(format!("tick {tick} {byte} changed {changed} {}\n", now.as_micros()));
        }
        last = now;
        for _ in 0..pages {
            let place = changed * PAGE % noise.len();
            noise[place] = noise[place].wrapping_add(1);
            changed += 1;
        }
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
