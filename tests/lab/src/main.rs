//! The command line of the lab.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use fog_lab::{
    CgroupVersion, Lab, LabConfig, Link, Log, NodeConfig, Suite, instances, parse_cpus, parse_duration, parse_labels,
    parse_node_prefix, parse_per_node, parse_size,
};

/// Run several real hosts on this machine, each with its own Debian, network, cgroups and Docker.
///
/// A lab is what you try Fogshift on: `fog-lab up` starts the hosts ("nodes") with fog-agent in each and a
/// fog-orchestrator beside them, `fog-lab exec A -- docker ps` runs a command in node A, and `fog-lab down` removes
/// everything again. Needs root. The first start of a Debian suite downloads it; later starts take seconds.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Instance {
    /// Which lab, when several run side by side
    #[arg(long, value_name = "NAME", default_value = "default", env = "FOG_LAB_INSTANCE")]
    instance: String,
}

#[derive(Subcommand)]
enum Command {
    /// Start a lab
    Up(UpArguments),
    /// Run a command in a node; its input, output and exit status are passed through (125: the lab failed)
    Exec {
        node: String,
        #[command(flatten)]
        instance: Instance,
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Show the nodes and what runs in them
    Ps {
        #[command(flatten)]
        instance: Instance,
        /// Show every lab on this machine
        #[arg(long, conflicts_with = "instance")]
        all: bool,
    },
    /// End a lab and remove all it left, also after a crash
    Down {
        #[command(flatten)]
        instance: Instance,
    },
    /// Print the orchestrator's address and token for a shell: eval "$(fog-lab env)"
    Env {
        #[command(flatten)]
        instance: Instance,
    },
    /// Print a log
    Logs {
        /// A node, or "orchestrator"
        node: String,
        /// Which log of the node
        #[arg(default_value = "agent", value_parser = ["agent", "dockerd"])]
        log: String,
        #[command(flatten)]
        instance: Instance,
    },
    /// Keep a node busy: hold it at a fraction of its own CPU quota, whatever else runs in it
    Burn {
        node: String,
        /// From 0 to 1, e.g. 0.9; 0 ends a detached burn
        utilization: f64,
        /// End after so many seconds instead of running until interrupted
        #[arg(long = "for", value_name = "SECONDS")]
        seconds: Option<f64>,
        /// Burn in the background
        #[arg(long, conflicts_with = "seconds")]
        detach: bool,
        #[command(flatten)]
        instance: Instance,
    },
    /// Unplug a node's network cable
    Cut {
        node: String,
        #[command(flatten)]
        instance: Instance,
    },
    /// Plug a node's network cable in again
    Heal {
        node: String,
        #[command(flatten)]
        instance: Instance,
    },
    /// Start the orchestrator, stop it, or kill it as a power cut would
    Orchestrator {
        #[arg(value_parser = ["start", "stop", "kill"])]
        what: String,
        #[command(flatten)]
        instance: Instance,
    },
    /// Start a node's agent, stop it, or kill it as a power cut would
    Agent {
        node: String,
        #[arg(value_parser = ["start", "stop", "kill"])]
        what: String,
        #[command(flatten)]
        instance: Instance,
    },
    #[command(hide = true)]
    HostInit { spec: PathBuf },
    #[command(hide = true)]
    LinkEmulator {
        switch_tap: String,
        host_tap: String,
        #[arg(long)]
        delay_us: u64,
        #[arg(long)]
        jitter_us: u64,
        #[arg(long)]
        loss: f64,
        #[arg(long)]
        seed: u64,
    },
}

#[derive(Args)]
struct UpArguments {
    /// The nodes' names
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', default_value = "A,B,C,D")]
    nodes: Vec<String>,
    /// Debian suite: trixie (Docker 26) or forky (Docker 28); for all or per node: A=trixie,B=forky
    #[arg(long, value_name = "SUITE", default_value = "trixie")]
    suite: String,
    /// cgroup layout the nodes see, v1 or v2; for all or per node [default: v1 where this machine has it]
    #[arg(long, value_name = "VERSION")]
    cgroup: Option<String>,
    /// CPU quota in CPUs, for all or per node: A=0.5,B=0.5
    #[arg(long, value_name = "CPUS")]
    cpus: Option<String>,
    /// Memory limit, for all or per node: A=512m
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// A node's network link, each way: D:rate=20mbit,delay=40ms,jitter=2ms,loss=0.1%; repeatable
    #[arg(long, value_name = "NODE:KEY=VALUE,…")]
    link: Vec<String>,
    /// How much earlier nodes were booted, for all or per node: B=3600s
    #[arg(long, value_name = "DURATION")]
    booted_earlier: Option<String>,
    /// Labels of a node: A:site=turku,tier=edge; repeatable
    #[arg(long, value_name = "NODE:KEY=VALUE,…")]
    label: Vec<String>,
    /// Further Debian packages for the nodes
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    package: Vec<String>,
    /// Further settings for every node's daemon.json, as a JSON object
    #[arg(long, value_name = "JSON")]
    docker_options: Option<String>,
    /// Placement policy for the orchestrator
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Folder with fog-agent, fog-runc and fog-orchestrator [default: where fog-lab is]
    #[arg(long, value_name = "FOLDER")]
    bin_dir: Option<PathBuf>,
    /// Start Docker only, none of Fogshift's programs
    #[arg(long)]
    no_programs: bool,
    /// Seed of the links' jitter and loss
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    instance: Instance,
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    // As with docker: the lab's own failure differs from any usual status of the command that was to run.
    let failure = if matches!(command, Command::Exec { .. }) { ExitCode::from(125) } else { ExitCode::FAILURE };
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fog-lab: {error:#}");
            failure
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Up(arguments) => up(arguments),
        Command::Exec { node, instance, command } => {
            Lab::attach(&instance.instance)?.find_node(&node)?.become_command(&command)?;
            Ok(())
        }
        Command::Ps { instance, all } => ps(if all { instances() } else { vec![instance.instance] }),
        Command::Down { instance } => Lab::down_instance(&instance.instance),
        Command::Env { instance } => {
            let lab = Lab::attach(&instance.instance)?;
            println!("export FOG_URL={}\nexport FOG_TOKEN={}", lab.url(), lab.token()?);
            Ok(())
        }
        Command::Logs { node, log, instance } => logs(&Lab::attach(&instance.instance)?, &node, &log),
        Command::Burn { node, utilization, seconds, detach, instance } => {
            let lab = Lab::attach(&instance.instance)?;
            if utilization == 0.0 {
                return lab.stop_burn(&node);
            }
            if detach {
                return lab.burn(&node, utilization);
            }
            let duration = seconds.map(Duration::try_from_secs_f64).transpose().context("--for wants seconds")?;
            lab.burn_here(&node, utilization, duration)
        }
        Command::Cut { node, instance } => Lab::attach(&instance.instance)?.cut(&node),
        Command::Heal { node, instance } => Lab::attach(&instance.instance)?.heal(&node),
        Command::Orchestrator { what, instance } => {
            let lab = Lab::attach(&instance.instance)?;
            match what.as_str() {
                "start" => lab.start_orchestrator(),
                "stop" => lab.stop_orchestrator(),
                _ => lab.kill_orchestrator(),
            }
        }
        Command::Agent { node, what, instance } => {
            let lab = Lab::attach(&instance.instance)?;
            match what.as_str() {
                "start" => lab.start_agent(&node),
                "stop" => lab.stop_agent(&node),
                _ => lab.kill_agent(&node),
            }
        }
        Command::HostInit { spec } => fog_lab::parts::host_init(&spec),
        Command::LinkEmulator { switch_tap, host_tap, delay_us, jitter_us, loss, seed } => {
            let (delay, jitter) = (Duration::from_micros(delay_us), Duration::from_micros(jitter_us));
            fog_lab::parts::link_emulator(&switch_tap, &host_tap, &Link { rate: None, delay, jitter, loss }, seed)
        }
    }
}

fn up(arguments: UpArguments) -> Result<()> {
    let start = Instant::now();
    let config = config(arguments)?;
    let lab = Lab::up(config, &mut |line| eprintln!("[{:5.1} s] {line}", start.elapsed().as_secs_f64()))?;
    ps(vec![lab.instance().to_owned()])
}

fn config(arguments: UpArguments) -> Result<LabConfig> {
    let mut config = LabConfig {
        instance: arguments.instance.instance,
        nodes: arguments.nodes.iter().map(|name| NodeConfig::new(name)).collect(),
        programs: !arguments.no_programs,
        bin_dir: arguments.bin_dir,
        policy: arguments.policy,
        packages: arguments.package,
        seed: arguments.seed,
        ..LabConfig::default()
    };
    if let Some(options) = arguments.docker_options {
        config.docker_options = serde_json::from_str(&options).context("--docker-options is no JSON object")?;
    }
    let nodes = &mut config.nodes;
    set(nodes, "--suite", Some(&arguments.suite), str::parse::<Suite>, |node, suite| node.suite = suite)?;
    set(nodes, "--cgroup", arguments.cgroup.as_deref(), str::parse::<CgroupVersion>, |node, version| {
        node.cgroup = Some(version);
    })?;
    set(nodes, "--cpus", arguments.cpus.as_deref(), parse_cpus, |node, cpus| node.cpus = Some(cpus))?;
    set(nodes, "--memory", arguments.memory.as_deref(), parse_size, |node, bytes| node.memory_bytes = Some(bytes))?;
    set(nodes, "--booted-earlier", arguments.booted_earlier.as_deref(), parse_duration, |node, ahead| {
        node.booted_earlier = ahead;
    })?;
    for text in &arguments.link {
        let (node, link) = parse_node_prefix(text)?;
        find(nodes, "--link", &node)?.link = link.parse()?;
    }
    for text in &arguments.label {
        let (node, labels) = parse_node_prefix(text)?;
        find(nodes, "--label", &node)?.labels.extend(parse_labels(&labels)?);
    }
    Ok(config)
}

/// Applies an option that is given for all nodes (`0.5`) or per node (`A=0.5,B=1`).
fn set<T: Copy>(
    nodes: &mut [NodeConfig],
    option: &str,
    text: Option<&str>,
    parse: impl Fn(&str) -> Result<T>,
    assign: impl Fn(&mut NodeConfig, T),
) -> Result<()> {
    let Some(text) = text else { return Ok(()) };
    for (name, value) in parse_per_node(text, parse).with_context(|| format!("{option} {text}"))? {
        match name {
            Some(name) => assign(find(nodes, option, &name)?, value),
            None => nodes.iter_mut().for_each(|node| assign(node, value)),
        }
    }
    Ok(())
}

fn find<'a>(nodes: &'a mut [NodeConfig], option: &str, name: &str) -> Result<&'a mut NodeConfig> {
    nodes
        .iter_mut()
        .find(|node| node.name == name)
        .with_context(|| format!("{option} names the node {name:?}, which is not among --nodes"))
}

fn ps(instances: Vec<String>) -> Result<()> {
    let mut rows =
        vec![["LAB", "NODE", "ADDRESS", "SUITE", "CGROUP", "CPUS", "STATE", "DOCKERD", "AGENT"].map(str::to_owned)];
    for instance in instances {
        let lab = Lab::attach(&instance)?;
        for node in lab.nodes() {
            let running = |running: bool| if running { "running" } else { "-" }.to_owned();
            rows.push([
                instance.clone(),
                node.name().to_owned(),
                node.address().to_owned(),
                node.suite().to_string(),
                node.cgroup().to_string(),
                node.cpus().map_or("-".to_owned(), |cpus| cpus.to_string()),
                if node.is_up() { "up" } else { "down" }.to_owned(),
                running(lab.dockerd_is_running(node.name())?),
                running(lab.agent_is_running(node.name())?),
            ]);
        }
        if lab.orchestrator_is_running() {
            let url = lab.url();
            rows.push([&instance, "(orchestrator)", &url, "", "", "", "up", "", ""].map(str::to_owned));
        }
    }
    let widths: Vec<usize> =
        (0..9).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        println!("{}", cells.join("  ").trim_end());
    }
    Ok(())
}

fn logs(lab: &Lab, node: &str, log: &str) -> Result<()> {
    let path = match (node, log) {
        ("orchestrator", _) => lab.orchestrator_log_file(),
        (node, "dockerd") => lab.log_file(node, Log::Dockerd)?,
        (node, _) => lab.log_file(node, Log::Agent)?,
    };
    let Ok(text) = std::fs::read(&path) else {
        bail!("there is no log yet at {}: has the program been started?", path.display());
    };
    // A reader that has seen enough (head) is no failure.
    let _ = std::io::stdout().write_all(&text);
    Ok(())
}
