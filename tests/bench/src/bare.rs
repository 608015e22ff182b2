//! Bare CRIU: what dumping and restoring the same process costs with nothing around it.
//!
//! The process runs on the host as a container's would, in a network namespace of its own, which stays: nothing of it is
//! dumped or rebuilt. Images on tmpfs, dump and restore by one shell right behind each other.

use std::time::Duration;

use anyhow::{Context, Result};
use fog_lab::{Node, wait_until};
use serde::Serialize;

use crate::moves::now_us;
use crate::ticker;

const FOLDER: &str = "/run/fog-bench";

/// One dump and restore.
#[derive(Debug, Serialize)]
pub struct Bare {
    /// What the process saw.
    pub gap_ms: f64,
    /// How long `criu dump` took.
    pub dump_ms: f64,
    /// How long `criu restore` took.
    pub restore_ms: f64,
}

/// Starts a ticker in a network namespace that a sleeping process keeps, and leaves both process ids.
const START: &str = r#"
set -e
rm -rf "$1" && mkdir -p "$1/images" && cd "$1"
unshare --net sh -c 'ip link set lo up; echo $$ > keeper; exec sleep 1000' </dev/null >/dev/null 2>&1 &
until [ -s keeper ]; do sleep 0.01; done
setsid --fork nsenter --net="/proc/$(cat keeper)/ns/net" sh -c 'echo $$ > pid; exec "$0" "$1"' "$2" "$3" </dev/null >"$1/out" 2>&1
until grep -q tick out; do sleep 0.05; done
"#;

/// Prints the two durations in microseconds.
const CYCLE: &str = r#"
set -e
cd "$1"
net="/proc/$(cat keeper)/ns/net"
inode=$(stat -L -c %i "$net")
exec 9<"$net"
a=$(date +%s%N)
criu dump --tree "$(cat pid)" --images-dir images --external "net[$inode]:kept" --log-file dump.log -v2
b=$(date +%s%N)
criu restore --restore-detached --images-dir images --inherit-fd "fd[9]:kept" --log-file restore.log -v2
c=$(date +%s%N)
echo $(((b - a) / 1000)) $(((c - b) / 1000))
"#;

const END: &str = r#"cd "$1" 2>/dev/null || exit 0; kill -9 "$(cat pid)" "$(cat keeper)" 2>/dev/null; rm -rf "$1""#;

/// Dumps and restores a ticker with so much memory once.
pub fn measure(node: &Node, mib: u32) -> Result<Bare> {
    let program = std::fs::read(ticker::program()?).context("cannot read the ticker")?;
    let place = format!("/usr/local{}", ticker::PROGRAM);
    if !node.exec(&["test", "-x", &place])?.status.success() {
        node.write_file(&place, program)?;
        node.run(&["chmod", "755", &place])?;
    }
    let measured = cycle(node, &place, mib);
    node.run(&["sh", "-c", END, "sh", FOLDER])?;
    measured
}

fn cycle(node: &Node, program: &str, mib: u32) -> Result<Bare> {
    node.run(&["sh", "-c", START, "sh", FOLDER, program, &mib.to_string()]).context("cannot start the bare ticker")?;
    let began = now_us();
    let took = node.run(&["sh", "-c", CYCLE, "sh", FOLDER]).context("bare CRIU failed")?;
    let mut took = took.split_whitespace().filter_map(|word| word.parse::<f64>().ok()).map(|us| us / 1e3);
    let (dump_ms, restore_ms) = took.next().zip(took.next()).context("bare CRIU was not timed")?;
    let gap_ms = wait_until(Duration::from_secs(20), "the bare ticker to say how long it stood still", || {
        let printed = node.run(&["cat", &format!("{FOLDER}/out")])?;
        Ok(ticker::largest_gap_ms(&printed, began).filter(|gap| *gap > 10.0))
    })?;
    Ok(Bare { gap_ms, dump_ms, restore_ms })
}
