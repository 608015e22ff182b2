//! What a move costs besides time: CPU of both nodes, and memory of their agents.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use fog_lab::Node;
use serde::Serialize;

/// What one move cost.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Cost {
    /// CPU seconds of everything on both nodes: agents, Docker, runc, CRIU, the kernel on their behalf.
    pub cpu_s: f64,
    /// How far the agent that needed more of it went above what it had before, in MiB.
    pub agent_mib: f64,
}

/// Taken before a move.
pub struct Before<'a> {
    nodes: [&'a Node; 2],
    cpu: Duration,
    agents: Vec<(PathBuf, f64)>,
}

fn cpu(nodes: [&Node; 2]) -> Result<Duration> {
    Ok(nodes[0].cpu_usage()? + nodes[1].cpu_usage()?)
}

fn status(process: &std::path::Path, field: &str) -> Result<f64> {
    let text = std::fs::read_to_string(process.join("status")).context("the agent's status cannot be read")?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)).context("the agent's status lacks a line")?;
    let kib: f64 = line.trim_start_matches(':').trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}

impl<'a> Before<'a> {
    /// Begins to count.
    pub fn of(nodes: [&'a Node; 2]) -> Result<Before<'a>> {
        let mut agents = Vec::new();
        for node in nodes {
            let pid = node.run(&["pgrep", "--oldest", "--full", "fog-agent run"]).context("no agent runs")?;
            let process = node.path(&format!("/proc/{pid}"))?;
            // The peak begins anew.
            std::fs::write(process.join("clear_refs"), "5").context("the agent's peak cannot be reset")?;
            let idle = status(&process, "VmRSS")?;
            agents.push((process, idle));
        }
        Ok(Before { nodes, cpu: cpu(nodes)?, agents })
    }

    /// What it came to.
    pub fn cost(&self) -> Result<Cost> {
        let mut agent_mib = 0.0_f64;
        for (process, idle) in &self.agents {
            agent_mib = agent_mib.max(status(process, "VmHWM")? - idle);
        }
        Ok(Cost { cpu_s: (cpu(self.nodes)?.saturating_sub(self.cpu)).as_secs_f64(), agent_mib })
    }
}
