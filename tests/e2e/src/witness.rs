//! The witness: hears every oracle, outside of all nodes, and flags what must never be.
//!
//! Two copies of one oracle that run (the same tick with two nonces), a step back, a gap, another incarnation, a sum that does not
//! follow from what was told before: memory that is not as the oracle wrote it.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fog_lab::wait_until;

use crate::cluster::DEADLINE;
use crate::oracle::{BLOCKS, block_sum};

const LOOK: Duration = Duration::from_millis(200);

/// One oracle's story so far.
#[derive(Debug, Default)]
struct Story {
    incarnation: u64,
    /// Nonce and sum of each tick.
    ticks: Vec<(u64, u64)>,
    blocks: Vec<u64>,
    /// It may go on from an earlier tick once: a person kept the older copy.
    may_step_back: bool,
    /// It may begin anew once: its container was ended by a person or by Docker.
    may_begin_anew: bool,
}

impl Story {
    fn begin(incarnation: u64) -> Story {
        let blocks = (0..BLOCKS as u64).map(|block| block_sum(incarnation, u64::MAX - block, 0)).collect();
        Story { incarnation, blocks, ..Story::default() }
    }

    fn take(&mut self, nonce: u64, sum: u64) -> Result<(), String> {
        let tick = self.ticks.len();
        self.blocks[tick % BLOCKS] = block_sum(self.incarnation, tick as u64, nonce);
        self.ticks.push((nonce, sum));
        let wanted = self.blocks.iter().fold(0, |all, block| all ^ block);
        if wanted == sum {
            Ok(())
        } else {
            Err(format!("its memory is wrong at tick {tick}: {sum:x} instead of {wanted:x}"))
        }
    }

    fn step_back(&mut self, to: usize) {
        let told = self.ticks[..to].to_vec();
        let anew = Story::begin(self.incarnation);
        *self = Story { may_begin_anew: self.may_begin_anew, ..anew };
        for (nonce, sum) in told {
            // It was right when it was heard first.
            drop(self.take(nonce, sum));
        }
    }

    /// A datagram. What is wrong with it, if anything.
    fn hear(&mut self, incarnation: u64, first: usize, told: &[(u64, u64)]) -> Result<(), String> {
        if incarnation != self.incarnation {
            let known = !self.ticks.is_empty();
            if known && !self.may_begin_anew {
                return Err(format!("another incarnation: {incarnation:x} beside {:x}", self.incarnation));
            }
            *self = Story::begin(incarnation);
        }
        for (tick, (nonce, sum)) in (first..).zip(told) {
            match self.ticks.get(tick) {
                Some(before) if *before == (*nonce, *sum) => {}
                Some(_) if self.may_step_back => {
                    self.step_back(tick);
                    self.take(*nonce, *sum)?;
                }
                Some(_) => return Err(format!("two copies run, or it stepped back: tick {tick} was told in two ways")),
                None if tick == self.ticks.len() => self.take(*nonce, *sum)?,
                None => return Err(format!("ticks {} to {tick} are missing", self.ticks.len())),
            }
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Heard {
    stories: BTreeMap<String, Story>,
    flags: Vec<String>,
}

/// Listens in a thread of its own until it is dropped.
pub struct Witness {
    address: SocketAddr,
    heard: Arc<Mutex<Heard>>,
    end: Arc<AtomicBool>,
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.end.store(true, Ordering::SeqCst);
    }
}

impl Witness {
    /// Listens at an address of this machine that the nodes reach.
    pub fn listen(address: &str) -> Result<Witness> {
        let socket = UdpSocket::bind((address, 0)).with_context(|| format!("cannot listen at {address}"))?;
        socket.set_read_timeout(Some(LOOK))?;
        let (heard, end): (Arc<Mutex<Heard>>, Arc<AtomicBool>) = Default::default();
        let witness = Witness { address: socket.local_addr()?, heard: Arc::clone(&heard), end: Arc::clone(&end) };
        std::thread::spawn(move || {
            let mut datagram = vec![0; 64 << 10];
            while !end.load(Ordering::SeqCst) {
                let Ok((length, from)) = socket.recv_from(&mut datagram) else { continue };
                if let Some(answer) = std::str::from_utf8(&datagram[..length]).ok().and_then(|text| hear(&heard, text))
                {
                    let _ = socket.send_to(answer.as_bytes(), from);
                }
            }
        });
        Ok(witness)
    }

    /// Where oracles are to tell.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A person kept an oracle's older copy: it may step back once.
    pub fn may_step_back(&self, name: &str) {
        if let Some(story) = self.heard().stories.get_mut(name) {
            story.may_step_back = true;
        }
    }

    /// An oracle's container was ended on purpose: it may begin anew once.
    pub fn may_begin_anew(&self, name: &str) {
        if let Some(story) = self.heard().stories.get_mut(name) {
            story.may_begin_anew = true;
        }
    }

    /// What must never be and was.
    pub fn flags(&self) -> Vec<String> {
        self.heard().flags.clone()
    }

    /// How many ticks of all oracles were heard and found right.
    pub fn ticks(&self) -> usize {
        self.heard().stories.values().map(|story| story.ticks.len()).sum()
    }

    /// Waits until an oracle has told so much more, and nothing is wrong with what was heard. From then on it may neither step
    /// back nor begin anew.
    pub fn goes_on(&self, name: &str, more: usize) -> Result<()> {
        let told = || self.heard().stories.get(name).map(|story| (story.incarnation, story.ticks.len()));
        let before = told();
        wait_until(DEADLINE, &format!("{name} to go on"), || {
            ensure!(self.flags().is_empty(), "the witness says: {}", self.flags().join("; "));
            let on = match (before, told()) {
                (Some((then, count)), Some((now, ticks))) => {
                    (now == then && ticks >= count + more) || (now != then && ticks >= more)
                }
                (None, Some((_, ticks))) => ticks >= more,
                _ => false,
            };
            Ok(on.then_some(()))
        })?;
        if let Some(story) = self.heard().stories.get_mut(name) {
            (story.may_step_back, story.may_begin_anew) = (false, false);
        }
        Ok(())
    }
}

/// Takes a datagram; the answer says which tick is to come next.
fn hear(heard: &Mutex<Heard>, text: &str) -> Option<String> {
    let mut lines = text.lines();
    let mut head = lines.next()?.split(' ');
    let (name, incarnation) = (head.next()?, u64::from_str_radix(head.next()?, 16).ok()?);
    let first = head.next()?.parse().ok()?;
    let hex = |line: &str| {
        let (nonce, sum) = line.split_once(' ')?;
        Some((u64::from_str_radix(nonce, 16).ok()?, u64::from_str_radix(sum, 16).ok()?))
    };
    let told: Vec<(u64, u64)> = lines.map_while(hex).collect();
    let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    let Heard { stories, flags } = &mut *heard;
    let story = stories.entry(name.to_owned()).or_insert_with(|| Story::begin(incarnation));
    if let Err(wrong) = story.hear(incarnation, first, &told) {
        flags.push(format!("{name}: {wrong}"));
        return None;
    }
    Some(format!("{incarnation:x} {}", story.ticks.len()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// What an oracle tells that writes with these nonces.
    fn story(incarnation: u64, nonces: &[u64]) -> Vec<(u64, u64)> {
        let mut story = Story::begin(incarnation);
        let sums = nonces.iter().enumerate().map(|(tick, nonce)| {
            story.blocks[tick % BLOCKS] = block_sum(incarnation, tick as u64, *nonce);
            (*nonce, story.blocks.iter().fold(0, |all, block| all ^ block))
        });
        sums.collect()
    }

    #[test]
    fn everything_that_must_never_be_is_flagged() {
        let right = story(7, &[1, 2, 3, 4]);
        let mut heard = Story::begin(7);
        assert_eq!(heard.hear(7, 0, &right[..2]), Ok(()));
        assert_eq!(heard.hear(7, 1, &right[1..3]), Ok(()), "told again it is the same");
        let other = story(7, &[1, 2, 9, 4]);
        assert!(heard.hear(7, 2, &other[2..3]).unwrap_err().contains("two copies"));
        assert!(heard.hear(7, 5, &right[3..]).unwrap_err().contains("missing"));
        assert!(heard.hear(8, 0, &story(8, &[1])).unwrap_err().contains("another incarnation"));
        assert!(heard.hear(7, 3, &[(4, 0)]).unwrap_err().contains("memory is wrong"));
    }

    #[test]
    fn a_step_back_that_a_person_wanted_is_one() {
        let mut heard = Story::begin(7);
        heard.hear(7, 0, &story(7, &[1, 2, 3, 4])).unwrap();
        heard.may_step_back = true;
        let older = story(7, &[1, 2, 9, 8, 7]);
        assert_eq!(heard.hear(7, 2, &older[2..]), Ok(()));
        assert_eq!((heard.ticks.len(), heard.may_step_back), (5, false));
    }
}
