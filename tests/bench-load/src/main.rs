//! `fog-load`: how many nodes one orchestrator holds. Starts the real program with a real database, thousands of
//! simulated agents over real connections, and reads of the API beside them; says what it took.

mod agents;
mod database;
mod measure;
mod overload;
mod reads;
mod service;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "fog-load", about = "Measures how many nodes one orchestrator holds.")]
struct Arguments {
    /// The orchestrator's program; the one beside this one when it is left out.
    #[arg(long, global = true)]
    orchestrator: Option<PathBuf>,
    /// Containers on each node.
    #[arg(long, global = true, default_value_t = 10)]
    containers: usize,
    /// Seconds between two samples of a node.
    #[arg(long, global = true, default_value_t = 5.0)]
    interval: f64,
    /// Seconds that are measured.
    #[arg(long, global = true, default_value_t = 30)]
    seconds: u64,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Steady load, and a restart in the middle of it, for clusters of several sizes.
    Curve {
        /// How many nodes, separated by commas.
        #[arg(long, value_delimiter = ',', default_value = "100,1000,3000,10000")]
        nodes: Vec<usize>,
        /// Leave the restart out.
        #[arg(long)]
        no_restart: bool,
    },
    /// What the nodes' samples take of the disk, day by day, by the store itself under a clock that runs ahead.
    Database {
        /// How many nodes.
        #[arg(long, default_value_t = 20)]
        nodes: usize,
        /// How many days.
        #[arg(long, default_value_t = 6)]
        days: u32,
    },
    /// The tables of what `curve`, `overload` and `database` printed.
    Table {
        /// Their files.
        files: Vec<PathBuf>,
    },
    /// More than it can do: what is turned away, what keeps its place, how it recovers.
    Overload {
        /// How many nodes.
        #[arg(long, default_value_t = 10_000)]
        nodes: usize,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fog-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(asked: Arguments) -> Result<()> {
    match &asked.command {
        Command::Table { files } => return table::print(files),
        Command::Database { nodes, days } => {
            let days = database::run(*nodes, *days, asked.interval).await?;
            println!("{}", serde_json::to_string_pretty(&days)?);
            return Ok(());
        }
        _ => {}
    }
    let program = match &asked.orchestrator {
        Some(program) => program.clone(),
        None => std::env::current_exe()?.with_file_name("fog-orchestrator"),
    };
    ensure!(program.exists(), "there is no {}: make build, or name it with --orchestrator", program.display());
    let interval = std::time::Duration::try_from_secs_f64(asked.interval).context("--interval")?;
    let seconds = std::time::Duration::from_secs(asked.seconds);
    match &asked.command {
        Command::Curve { nodes, no_restart } => {
            let mut lines = Vec::new();
            for nodes in nodes {
                let size = measure::Size { nodes: *nodes, containers: asked.containers, interval };
                let line = measure::steady(&program, size, seconds, !no_restart).await?;
                eprintln!("{}", serde_json::to_string(&line)?);
                lines.push(line);
            }
            println!("{}", serde_json::to_string_pretty(&lines)?);
        }
        Command::Overload { nodes } => {
            let size = measure::Size { nodes: *nodes, containers: asked.containers, interval };
            println!("{}", serde_json::to_string_pretty(&overload::run(&program, size, seconds).await?)?);
        }
        Command::Database { .. } | Command::Table { .. } => {}
    }
    Ok(())
}
