//! `fog-bench downtime`: moves a container there and back on real hosts and says how long it stood still, beside what
//! bare CRIU takes for the same process on the same hosts. `fog-bench table`: the same, the peers, and all other goals.

mod bare;
mod cost;
mod moves;
mod peers;
mod redis;
mod report;
mod table;
mod ticker;

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use fog_api::migration::Strategy;
use fog_e2e::cluster::Cluster;
use fog_lab::{CgroupVersion, LabConfig, Suite};

#[derive(Debug, Parser)]
#[command(name = "fog-bench", about = "Measures Fogshift on real hosts of fog-lab; needs root.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// How long a move stops a container, measured by the container itself.
    Downtime(Downtime),
    /// Everything that is promised of a move, beside its peers on the same hosts: about a quarter of an hour.
    Table(table::Asked),
}

#[derive(Debug, Args)]
struct Downtime {
    /// Moves for each size, there and back in turn.
    #[arg(long, default_value_t = 20)]
    moves: u32,
    /// Memory the container holds, in MiB, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "4,64")]
    mib: Vec<u32>,
    /// The hosts' Debian: trixie has Docker 26, forky has Docker 28.
    #[arg(long, default_value = "forky")]
    suite: Suite,
    /// The hosts' cgroup layout: v1 or v2.
    #[arg(long, default_value = "v2")]
    cgroup: CgroupVersion,
    /// How memory travels.
    #[arg(long, default_value = "stop-and-copy")]
    strategy: String,
    /// A table for people or every raw figure for programs.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    Table,
    Json,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Downtime(asked) => downtime(&asked),
        Command::Table(asked) => table::table(&asked),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fog-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn downtime(asked: &Downtime) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "real hosts need root: run it as root");
    ensure!(asked.moves > 0 && !asked.mib.is_empty(), "nothing to measure: use --moves 1 and --mib 4 or more");
    let mut config = LabConfig::new(&format!("bench-{}", std::process::id()), &["A", "B"]);
    for node in &mut config.nodes {
        (node.suite, node.cgroup) = (asked.suite, Some(asked.cgroup));
    }
    let cluster = Cluster::up(config, &mut |line| eprintln!("{line}"))?;
    let image = ticker::image()?;
    cluster.lab().load_image(&image).context("cannot load the ticker's image")?;
    let strategy: Strategy = serde_json::from_value(asked.strategy.clone().into()).with_context(|| {
        format!("{} is no strategy: use stop-and-copy, pre-copy, post-copy or hybrid", asked.strategy)
    })?;
    let mut sizes = Vec::new();
    for mib in &asked.mib {
        sizes.push(moves::measure(&cluster, *mib, asked.moves, strategy)?);
    }
    let report = report::Report::new((asked.suite, asked.cgroup, strategy), sizes);
    match asked.output {
        Output::Table => print!("{report}"),
        Output::Json => {
            eprint!("{report}");
            println!("{}", serde_json::to_string_pretty(&report)?);
        }
    }
    Ok(())
}
