//! Delay, jitter and loss for a node's link, for kernels without netem: two TAP devices joined by a queue of frames in
//! each direction. (A rate limit needs no emulation: the kernel's tbf does it on the same devices.)
//!
//! A frame gets its release time when it arrives, `now + delay ± jitter` but never before its predecessor's, so frames
//! keep their order as on a real line. One thread serves both directions and sleeps until a frame comes or is due.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::config::Link;
use crate::tap;

/// Frames beyond this many waiting bytes are dropped, as a full router does.
const QUEUE_BYTES: usize = 64 << 20;
/// Frames read from one device before the other gets its turn.
const BATCH: usize = 64;
const LARGEST_FRAME: usize = 65_536;

/// Joins two new TAP devices of the current network namespace until killed.
pub fn run(switch_tap: &str, host_tap: &str, link: &Link, seed: u64) -> Result<()> {
    let taps = [tap::create(switch_tap)?, tap::create(host_tap)?];
    // Frames read from tap 0 wait in queue 0 and leave through tap 1, and the other way round.
    let mut queues = [DelayQueue::new(link, seed), DelayQueue::new(link, seed.wrapping_add(0x5eed))];
    let mut buffer = vec![0; LARGEST_FRAME];
    loop {
        for from in 0..2 {
            let now = Instant::now();
            while let Some(frame) = queues[from].pop_due(now) {
                send(&taps[1 - from], &frame);
            }
        }
        wait_for_work(&taps, queues.iter().filter_map(DelayQueue::next_release).min())?;
        for (tap, queue) in taps.iter().zip(&mut queues) {
            receive(tap, queue, &mut buffer)?;
        }
    }
}

fn wait_for_work(taps: &[File; 2], release: Option<Instant>) -> Result<()> {
    let timeout = release
        .map(|release| release.saturating_duration_since(Instant::now()))
        .map(|wait| Timespec { tv_sec: wait.as_secs().cast_signed(), tv_nsec: wait.subsec_nanos().into() });
    let mut polled = [PollFd::new(&taps[0], PollFlags::IN), PollFd::new(&taps[1], PollFlags::IN)];
    match poll(&mut polled, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error).context("cannot wait for frames"),
    }
}

fn receive(mut tap: &File, queue: &mut DelayQueue, buffer: &mut [u8]) -> Result<()> {
    for _ in 0..BATCH {
        match tap.read(buffer) {
            Ok(length) => queue.push(Instant::now(), &buffer[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("cannot read from the TAP device"),
        }
    }
    Ok(())
}

/// A frame that the receiving side does not take (device down, queue full) is lost, as on a real line.
fn send(mut tap: &File, frame: &[u8]) {
    let _ = tap.write(frame);
}

/// The frames on their way in one direction.
struct DelayQueue {
    delay: Duration,
    jitter: Duration,
    loss: f64,
    random: Random,
    frames: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    last_release: Option<Instant>,
}

impl DelayQueue {
    fn new(link: &Link, seed: u64) -> DelayQueue {
        DelayQueue {
            delay: link.delay,
            jitter: link.jitter,
            loss: link.loss,
            random: Random(seed),
            frames: VecDeque::new(),
            bytes: 0,
            last_release: None,
        }
    }

    fn push(&mut self, now: Instant, frame: &[u8]) {
        if self.random.fraction() < self.loss || self.bytes + frame.len() > QUEUE_BYTES {
            return;
        }
        // Evenly from delay - jitter to delay + jitter, and not before the frame came.
        let late = now + self.delay + self.jitter.mul_f64(2.0 * self.random.fraction());
        let release = late.checked_sub(self.jitter).unwrap_or(late).max(now);
        let release = self.last_release.map_or(release, |last| release.max(last));
        self.last_release = Some(release);
        self.bytes += frame.len();
        self.frames.push_back((release, frame.to_vec()));
    }

    fn next_release(&self) -> Option<Instant> {
        self.frames.front().map(|(release, _)| *release)
    }

    fn pop_due(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.next_release().filter(|release| *release <= now)?;
        let (_, frame) = self.frames.pop_front()?;
        self.bytes -= frame.len();
        Some(frame)
    }
}

/// SplitMix64: small, fast, and the same sequence for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Evenly from 0 (included) to 1 (excluded).
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn link(delay_us: u64, jitter_us: u64, loss: f64) -> Link {
        Link { rate: None, delay: Duration::from_micros(delay_us), jitter: Duration::from_micros(jitter_us), loss }
    }

    proptest! {
        #[test]
        fn frames_keep_their_order_and_leave_in_their_window(
            seed: u64,
            delay in 0u64..100_000,
            jitter in 0u64..100_000,
            gaps in prop::collection::vec(0u64..20_000, 1..200),
        ) {
            let mut queue = DelayQueue::new(&link(delay, jitter, 0.0), seed);
            let start = Instant::now();
            let mut now = start;
            let mut arrivals = Vec::new();
            for (number, gap) in gaps.iter().enumerate() {
                now += Duration::from_micros(*gap);
                queue.push(now, &(number as u32).to_be_bytes());
                arrivals.push(now);
            }
            let mut last = start;
            for (number, arrival) in arrivals.iter().enumerate() {
                let release = queue.next_release().expect("no frame is lost");
                prop_assert!(release >= last, "order is kept");
                let earliest = *arrival + Duration::from_micros(delay.saturating_sub(jitter));
                // A frame may wait for its predecessor, which itself was not later than its own window.
                let latest = *arrival + Duration::from_micros(delay + jitter) + Duration::from_nanos(10);
                prop_assert!(release >= earliest && release <= latest);
                prop_assert!(queue.pop_due(release - Duration::from_nanos(1)).is_none(), "nothing leaves early");
                prop_assert_eq!(queue.pop_due(release), Some((number as u32).to_be_bytes().to_vec()));
                last = release;
            }
            prop_assert_eq!(queue.bytes, 0);
        }
    }

    #[test]
    fn loss_is_as_asked_and_repeatable() {
        let count = |seed| {
            let mut queue = DelayQueue::new(&link(0, 0, 0.1), seed);
            let now = Instant::now();
            (0..100_000).for_each(|_| queue.push(now, b"x"));
            queue.frames.len()
        };
        assert_eq!(count(7), count(7));
        assert!((89_000..91_000).contains(&count(7)), "{}", count(7));
    }

    #[test]
    fn a_full_queue_drops() {
        let mut queue = DelayQueue::new(&link(1_000_000, 0, 0.0), 1);
        let frame = vec![0; 1 << 20];
        (0..100).for_each(|_| queue.push(Instant::now(), &frame));
        assert_eq!(queue.frames.len(), 64);
    }
}
