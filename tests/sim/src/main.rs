//! `fog-sim`: a cluster of simulated nodes for an orchestrator that runs already.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
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
    /// A label of a node; may be given several times
    #[arg(long = "label", num_args = 3, value_names = ["NODE", "KEY", "VALUE"])]
    labels: Vec<String>,
    /// So many further nodes, node-0001 and so on, in eight sites; each carries two containers, knows its way to its next
    /// eight neighbours, and its load rises and falls
    #[arg(long, default_value_t = 0)]
    fleet: usize,
    /// Seconds between two samples.
    #[arg(long, default_value_t = 2.0)]
    interval: f64,
}

fn pairs(texts: &[String]) -> anyhow::Result<Vec<(&str, &str)>> {
    texts.iter().map(|text| text.rsplit_once('=').with_context(|| format!("{text:?}: expected NAME=VALUE"))).collect()
}

fn numbers(texts: &[String]) -> anyhow::Result<BTreeMap<String, f64>> {
    let number = |(name, value): (&str, &str)| {
        let value = value.parse().with_context(|| format!("{name}={value}: expected a number"))?;
        Ok((name.to_owned(), value))
    };
    pairs(texts)?.into_iter().map(number).collect()
}

const SITES: usize = 8;
const NEIGHBOURS: usize = 8;
/// No fleet node comes near the default policy's limit: what is watched here is the telling, not the moving.
const CALM: f64 = 0.35;

fn fleet_name(at: usize) -> String {
    format!("node-{:04}", at + 1)
}

fn fleet_node(at: usize, count: usize, world: &Arc<World>, interval: Duration) -> Arc<SimNode> {
    let neighbours = (1..=NEIGHBOURS.min(count.saturating_sub(1))).map(|step| (at + step * SITES) % count);
    let rtt_ms =
        neighbours.filter(|other| *other != at).map(|other| (fleet_name(other), 1.0 + (other % 7) as f64)).collect();
    let name = fleet_name(at);
    for letter in ["a", "b"] {
        world.run(&name, &format!("work-{:04}-{letter}", at + 1));
    }
    let node = SimNode::new(&name, Load { cpu: CALM, memory: 0.3, rtt_ms }, world, interval);
    let mut labels = node.labels.lock().unwrap_or_else(PoisonError::into_inner);
    labels.insert("site".to_owned(), format!("site {}", at % SITES + 1));
    labels.insert("lat".to_owned(), format!("{:.3}", 60.0 + (at % 37) as f64 * 0.05));
    labels.insert("lon".to_owned(), format!("{:.3}", 20.0 + (at % 53) as f64 * 0.08));
    drop(labels);
    node
}

/// Its load rises and falls, each node's at its own moment.
async fn waves(node: Arc<SimNode>, at: usize, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    for tick in 0_u32.. {
        ticks.tick().await;
        let phase = f64::from(tick) / 9.0 + at as f64;
        node.load.lock().unwrap_or_else(PoisonError::into_inner).cpu = CALM + 0.3 * phase.sin();
    }
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
        let own = arguments.labels.chunks_exact(3).filter(|label| label[0] == *name);
        let own = own.map(|label| (label[1].clone(), label[2].clone()));
        node.labels.lock().unwrap_or_else(PoisonError::into_inner).extend(own);
        tokio::spawn(node.run(arguments.url.clone(), arguments.token.clone()));
    }
    for at in 0..arguments.fleet {
        let node = fleet_node(at, arguments.fleet, &world, interval);
        tokio::spawn(waves(Arc::clone(&node), at, interval));
        tokio::spawn(node.run(arguments.url.clone(), arguments.token.clone()));
    }
    let count = nodes.len() + arguments.fleet;
    eprintln!("{count} simulated nodes dial {}; end with Ctrl-C", arguments.url);
    tokio::signal::ctrl_c().await?;
    Ok(())
}
