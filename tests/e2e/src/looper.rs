//! The thesis's looper: it prints 0, 1, 2, … one a second. A number that is missing was lost, one that is there twice
//! was run twice.

use anyhow::{Context, Result, bail};
use fog_lab::images::{BUSYBOX, LOOPER};
use fog_lab::{Node, wait_until};

use crate::cluster::DEADLINE;

/// Starts a looper under Docker as a user would, with further options of `docker run`.
pub fn run(node: &Node, name: &str, options: &[&str]) -> Result<()> {
    let command = [&["docker", "run", "--detach", "--name", name][..], options, &[BUSYBOX], &LOOPER[..]].concat();
    node.run(&command).with_context(|| format!("cannot start {name} on {}", node.name()))?;
    Ok(())
}

/// Starts a looper that also holds `mib` mebibytes of noise, so that moving it takes a while.
pub fn run_heavy(node: &Node, name: &str, mib: u32) -> Result<()> {
    // base64 makes 4 bytes of 3; the shell keeps them in one variable.
    let noise = u64::from(mib) * 1024 * 1024 * 3 / 4;
    let script = format!("noise=$(head -c {noise} /dev/urandom | base64); {}", LOOPER[2]);
    node.run(&["docker", "run", "--detach", "--name", name, BUSYBOX, "sh", "-c", &script])
        .with_context(|| format!("cannot start {name} on {}", node.name()))?;
    // It counts once it has its noise.
    wait_until(DEADLINE, "the heavy looper to count", || Ok(numbers(node, name)?.first().map(drop)))
}

/// Every number that `docker logs` shows.
pub fn numbers(node: &Node, name: &str) -> Result<Vec<u64>> {
    let log = node.run(&["docker", "logs", name])?;
    log.lines().map(|line| line.trim().parse().with_context(|| format!("{name} printed {line:?}"))).collect()
}

/// Refuses a number that is missing, repeated or out of order.
pub fn check_consecutive(numbers: &[u64]) -> Result<()> {
    for (expected, number) in (0..).zip(numbers) {
        if expected != *number {
            bail!("after {} should come {expected}, but there is {number}", expected.saturating_sub(1));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_and_a_repetition_are_seen() {
        assert!(check_consecutive(&[0, 1, 2]).is_ok());
        assert!(check_consecutive(&[0, 2]).is_err());
        assert!(check_consecutive(&[0, 1, 1]).is_err());
        assert!(check_consecutive(&[1, 2]).is_err());
    }
}
