//! `fog-sim`: a cluster of simulated nodes for an orchestrator that runs already.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use fog_sim::node::{Load, SimNode};
use fog_sim::world::World;

/// Simulated nodes that speak the agents' channel. No container is real.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// The orchestrator.
    #[arg(long, env = "FOG_URL", default_value = "http://127.0.0.1:7700")]
    url: String,
    /// Its token.
    #[arg(long, env = "FOG_TOKEN", hide_env_values = true)]
    token: String,
    /// Nodes with their CPU utilization.
    #[arg(long, value_delimiter = ',', default_value = "A=0.90,B=0.65,C=0.20,D=0.15")]
    nodes: Vec<String>,
    /// Nodes behind a long way, with its round-trip time in milliseconds; all others are 2 ms from each other.
    #[arg(long, value_delimiter = ',', default_value = "D=80")]
    distant: Vec<String>,
    /// Containers with the node that they run on.
    #[arg(long, value_delimiter = ',', default_value = "looper=A")]
    workloads: Vec<String>,
    /// Seconds between two samples.
    #[arg(long, default_value_t = 2.0)]
    interval: f64,
}

fn pairs(texts: &[String]) -> anyhow::Result<Vec<(&str, &str)>> {
    texts.iter().map(|text| text.split_once('=').with_context(|| format!("{text:?}: expected NAME=VALUE"))).collect()
}

fn numbers(texts: &[String]) -> anyhow::Result<BTreeMap<String, f64>> {
    let number = |(name, value): (&str, &str)| {
        let value = value.parse().with_context(|| format!("{name}={value}: expected a number"))?;
        Ok((name.to_owned(), value))
    };
    pairs(texts)?.into_iter().map(number).collect()
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let (nodes, distant) = (numbers(&arguments.nodes)?, numbers(&arguments.distant)?);
    let world = Arc::new(World::default());
    for (workload, node) in pairs(&arguments.workloads)? {
        anyhow::ensure!(nodes.contains_key(node), "{workload}={node}: there is no node {node}");
        world.run(node, workload);
    }
    let interval = Duration::try_from_secs_f64(arguments.interval).context("--interval")?;
    for (name, cpu) in &nodes {
        let rtt_ms = nodes
            .keys()
            .filter(|other| *other != name)
            .map(|other| (other.clone(), distant.get(name).or(distant.get(other)).copied().unwrap_or(2.0)))
            .collect();
        let node = SimNode::new(name, Load { cpu: *cpu, memory: 0.3, rtt_ms }, &world, interval);
        tokio::spawn(node.run(arguments.url.clone(), arguments.token.clone()));
    }
    eprintln!("{} simulated nodes dial {}; end with Ctrl-C", nodes.len(), arguments.url);
    tokio::signal::ctrl_c().await?;
    Ok(())
}
