//! The oracle: a workload whose memory follows from what it has told a witness, so that the witness can say of every
//! message what must be in it.
//!
//! At each tick it draws a nonce, writes one block of its memory anew out of incarnation, tick and nonce, and sums up all of
//! its memory as it is. Two copies that run draw different nonces, so they cannot tell the same story. What the witness
//! has not acknowledged is told again, so a gap is no matter of the network.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result};
use fog_lab::Node;
use fog_lab::images::Image;

/// The image's name.
pub const IMAGE: &str = "fog/oracle:1";
/// The program in it.
pub const PROGRAM: &str = "/bin/fog-oracle";

const TICK: Duration = Duration::from_millis(100);
const ANSWER: Duration = Duration::from_millis(15);
/// Words of a block: 64 KiB.
const WORDS: u64 = 8192;
/// Blocks of the memory: 4 MiB.
pub const BLOCKS: usize = 64;
/// Ticks in one datagram.
const TOLD_AT_ONCE: usize = 36;
/// More than this is not kept: it waits until it is heard.
const MOST_UNHEARD: usize = 4096;

/// SplitMix64's finalizer: no two places look alike, and nothing compresses.
fn word(incarnation: u64, tick: u64, nonce: u64, place: u64) -> u64 {
    let mut z =
        (incarnation ^ tick.rotate_left(32) ^ nonce.rotate_left(17) ^ place).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn sum(words: impl Iterator<Item = u64>) -> u64 {
    words.fold(0, |sum, word| (sum ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(23))
}

/// The sum of a block that was written at a tick; before its first one, as tick `u64::MAX - block` with nonce 0.
pub fn block_sum(incarnation: u64, tick: u64, nonce: u64) -> u64 {
    sum((0..WORDS).map(|place| word(incarnation, tick, nonce, place)))
}

/// Tells the witness until it is ended.
pub fn run(name: &str, witness: SocketAddr) -> Result<()> {
    let incarnation = random()?;
    let fresh =
        |tick: u64, nonce: u64| (0..WORDS).map(|place| word(incarnation, tick, nonce, place)).collect::<Vec<u64>>();
    let mut blocks: Vec<Vec<u64>> = (0..BLOCKS as u64).map(|block| fresh(u64::MAX - block, 0)).collect();
    let mut unheard: Vec<(u64, u64)> = Vec::new();
    let mut heard = 0_u64; // the first tick that is not acknowledged
    loop {
        if unheard.len() < MOST_UNHEARD {
            let (tick, nonce) = (heard + unheard.len() as u64, random()?);
            blocks[tick as usize % BLOCKS] = fresh(tick, nonce);
            let all = blocks.iter().fold(0, |all, block| all ^ sum(block.iter().copied()));
            unheard.push((nonce, all));
        }
        // Nothing of this may hold it up: without a network it goes on, and tells later.
        if let Ok(next) = tell(name, incarnation, heard, &unheard, witness) {
            let new = next.saturating_sub(heard).min(unheard.len() as u64);
            unheard.drain(..new as usize);
            heard += new;
        }
        std::thread::sleep(TICK);
    }
}

fn tell(name: &str, incarnation: u64, first: u64, unheard: &[(u64, u64)], witness: SocketAddr) -> Result<u64> {
    let mut text = format!("{name} {incarnation:x} {first}\n");
    for (nonce, all) in unheard.iter().take(TOLD_AT_ONCE) {
        text.push_str(&format!("{nonce:x} {all:x}\n"));
    }
    // A new one each time: its address may be another one after a move.
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(ANSWER))?;
    socket.send_to(text.as_bytes(), witness)?;
    let mut answer = [0; 64];
    let (length, _) = socket.recv_from(&mut answer)?;
    let answer = std::str::from_utf8(&answer[..length])?;
    let (who, next) = answer.split_once(' ').context("an answer has two words")?;
    anyhow::ensure!(u64::from_str_radix(who, 16)? == incarnation, "an answer to another incarnation");
    Ok(next.trim().parse()?)
}

fn random() -> Result<u64> {
    let mut bytes = [0; 8];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// An image of the program.
pub fn image() -> Result<Image> {
    crate::pages::image_of(IMAGE, PROGRAM, "fog-oracle")
}

/// Starts an oracle that tells a witness; it may run before all of its memory is there.
pub fn start(node: &Node, name: &str, witness: SocketAddr) -> Result<()> {
    let label = ["--label", "fogshift.post-copy=allowed"];
    let witness = witness.to_string();
    let command = ["docker", "run", "--detach", "--name", name, label[0], label[1], IMAGE, PROGRAM, name, &witness];
    node.run(&command).with_context(|| format!("cannot start {name} on {}", node.name())).map(drop)
}
