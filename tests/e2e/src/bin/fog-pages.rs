//! A workload that knows what its memory must hold, and says so or ends.
//!
//! It holds blocks of a mebibyte whose every word follows from the block, the word's place and the block's generation.
//! Without end it writes some blocks anew, checks others, gives some back and lets some grow (large ones move their
//! mapping). `fog-pages MIB [DIRTY_MIB_PER_S]`

use std::io::Write;
use std::time::{Duration, Instant};

const WORDS: usize = 1 << 17;
const TICK: Duration = Duration::from_millis(20);

struct Block {
    number: u64,
    generation: u64,
    words: Vec<u64>,
}

fn word(number: u64, generation: u64, place: u64) -> u64 {
    // SplitMix64's finalizer: no two places look alike, and nothing compresses.
    let mut z = (number << 40 ^ generation << 20 ^ place).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Block {
    fn new(number: u64, generation: u64) -> Block {
        Block { number, generation, words: (0..WORDS as u64).map(|place| word(number, generation, place)).collect() }
    }

    fn write_anew(&mut self) {
        self.generation += 1;
        for (place, into) in (0..).zip(&mut self.words) {
            *into = word(self.number, self.generation, place);
        }
    }

    /// The mapping of a vector this large is moved, not copied.
    fn grow(&mut self) {
        let places = self.words.len() as u64..(self.words.len() + WORDS / 4) as u64;
        self.words.extend(places.map(|place| word(self.number, self.generation, place)));
    }

    fn check(&self) {
        for (place, found) in (0..).zip(&self.words) {
            let wanted = word(self.number, self.generation, place);
            if *found != wanted {
                say(&format!("BAD block {} generation {} place {place}: {found:#x}", self.number, self.generation));
                std::process::exit(1);
            }
        }
    }
}

/// A reader that is gone is no reason to end.
fn say(line: &str) {
    let mut out = std::io::stdout();
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
}

fn main() {
    let argument = |at: usize| std::env::args().nth(at).and_then(|word| word.parse::<u64>().ok());
    let (mebibytes, dirty_per_s) = (argument(1).unwrap_or(16).max(2), argument(2).unwrap_or(0));
    let mut blocks: Vec<Block> = (0..mebibytes).map(|number| Block::new(number, 0)).collect();
    let (began, mut written, mut checked, mut passes) = (Instant::now(), 0_u64, 0_usize, 0_u64);
    say("ready");
    let mut last = Instant::now();
    for tick in 1_u64.. {
        std::thread::sleep(TICK);
        // What is due since the last tick; a pause is not made up for.
        let due = (last.elapsed().as_secs_f64().min(0.1) * dirty_per_s as f64).ceil() as u64;
        last = Instant::now();
        for _ in 0..due {
            let at = written as usize % blocks.len();
            blocks[at].write_anew();
            written += 1;
        }
        for _ in 0..4 {
            blocks[checked % blocks.len()].check();
            checked += 1;
            if checked.is_multiple_of(blocks.len()) {
                passes += 1;
                say(&format!("pass {passes} after {} ms", began.elapsed().as_millis()));
            }
        }
        if tick.is_multiple_of(10) {
            let at = (tick / 10) as usize % blocks.len();
            blocks[at].grow();
            if blocks[at].words.len() > 4 * WORDS {
                let Block { number, generation, .. } = blocks[at];
                blocks[at] = Block::new(number, generation + 1);
            }
        }
    }
}
