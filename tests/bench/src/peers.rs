//! The peers, on the same hosts: what their own commands do for a container that has to move.
//!
//! Each moves a fresh ticker from A to B and is timed by the ticker's own gap, like we are. The archive or folder is copied
//! by this program from one host's files to the other's, without any network: that favours the peers.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fog_lab::{Node, wait_until};
use serde::Serialize;

use crate::moves::now_us;
use crate::ticker;

const NAME: &str = "peer";
const ARCHIVE: &str = "/run/fog-bench-peer.tar";
const PATIENCE: Duration = Duration::from_secs(120);

/// Whose commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    /// `podman container checkpoint --export`, copy, `podman container restore --import`.
    Podman,
    /// `docker checkpoint`, copy, `docker start --checkpoint`, as Docker 26 has them.
    Docker,
}

/// podman beside Docker: storage where an overlay is possible, cgroups without systemd, Docker's own runc.
const PODMAN: [&str; 8] = [
    "podman",
    "--root=/var/lib/docker/fog-bench-podman",
    "--runroot=/run/fog-bench-podman",
    "--cgroup-manager=cgroupfs",
    "--runtime=runc",
    "--events-backend=file",
    "--log-level=error",
    "--storage-driver=overlay",
];

fn podman(words: &[&str]) -> Vec<String> {
    PODMAN.iter().chain(words).map(|word| (*word).to_owned()).collect()
}

impl Peer {
    /// Puts the ticker's image where the peer looks for it.
    pub fn prepare(self, nodes: [&Node; 2]) -> Result<()> {
        if self == Peer::Podman {
            for node in nodes {
                node.run(&["docker", "save", "--output", ARCHIVE, ticker::IMAGE]).context("cannot save the image")?;
                node.run(&podman(&["load", "--input", ARCHIVE])).context("podman cannot load the image")?;
                node.run(&["rm", "-f", ARCHIVE])?;
            }
        }
        Ok(())
    }

    /// Moves a ticker with so much memory once; what it saw, in milliseconds.
    pub fn measure(self, a: &Node, b: &Node, mib: u32) -> Result<f64> {
        let measured = self.moved(a, b, mib);
        for node in [a, b] {
            match self {
                Peer::Podman => drop(node.exec(&podman(&["rm", "--force", "--time=0", NAME]))?),
                Peer::Docker => drop(node.exec(&["docker", "rm", "--force", NAME])?),
            }
            node.exec(&["rm", "-f", ARCHIVE])?;
        }
        measured
    }

    fn moved(self, a: &Node, b: &Node, mib: u32) -> Result<f64> {
        let mib = mib.to_string();
        let image = match self {
            Peer::Podman => format!("docker.io/{}", ticker::IMAGE),
            Peer::Docker => ticker::IMAGE.to_owned(),
        };
        let command = [image.as_str(), ticker::PROGRAM, &mib];
        match self {
            Peer::Podman => a.run(&podman(
                &[&["run", "--detach", "--name", NAME, "--network=host", "--pids-limit=0"][..], &command].concat(),
            )),
            Peer::Docker => a.run(&[&["docker", "run", "--detach", "--name", NAME][..], &command].concat()),
        }
        .context("the peer cannot start a ticker")?;
        self.ticks(a)?;
        let began = now_us();
        match self {
            Peer::Podman => {
                a.run(&podman(&["container", "checkpoint", "--export", ARCHIVE, NAME]))?;
                copy(&a.path(ARCHIVE)?, &b.path(ARCHIVE)?)?;
                b.run(&podman(&["container", "restore", "--import", ARCHIVE]))?;
            }
            Peer::Docker => {
                // Everything that can be done before is done before.
                let there = b.run(&[&["docker", "create", "--name", NAME][..], &command].concat())?;
                let here = a.run(&["docker", "inspect", "--format", "{{.Id}}", NAME])?;
                let made = format!("/var/lib/docker/containers/{here}/checkpoints/one");
                let place = format!("/var/lib/docker/containers/{there}/checkpoints/one");
                a.run(&["docker", "checkpoint", "create", NAME, "one"])?;
                copy(&a.path(&made)?, &b.path(&place)?)?;
                b.run(&["docker", "start", "--checkpoint", "one", NAME])?;
            }
        }
        wait_until(PATIENCE, "the peer's ticker to say how long it stood still", || {
            Ok(ticker::largest_gap_ms(&self.logs(b)?, began).filter(|gap| *gap > 50.0))
        })
    }

    fn ticks(self, node: &Node) -> Result<()> {
        wait_until(PATIENCE, "the peer's ticker to tick", || Ok(self.logs(node)?.contains("tick ").then_some(())))
    }

    fn logs(self, node: &Node) -> Result<String> {
        match self {
            Peer::Podman => node.run(&podman(&["logs", "--tail", "100", NAME])),
            Peer::Docker => node.run(&["docker", "logs", "--tail", "100", NAME]),
        }
    }
}

/// From one host's files to the other's.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let copied = std::process::Command::new("cp").args(["--recursive", "--preserve"]).args([from, to]).status()?;
    ensure!(copied.success(), "{} cannot be copied to {}", from.display(), to.display());
    Ok(())
}
