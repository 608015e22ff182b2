//! `fog-agent`: the command line.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use clap::{Args, Parser, Subcommand, ValueEnum};
use fog_agent::config::{Config, OrchestratorUrl, Overrides};
use fog_agent::runtime::Docker;
use fog_agent::sampler::Sampler;
use fog_agent::{agent, doctor, lines};
use fog_api::log::{self, Format};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Fogshift's node agent: samples its node and moves containers when the orchestrator says so.
#[derive(Debug, Parser)]
#[command(name = "fog-agent", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent.
    Run {
        #[command(flatten)]
        common: Common,
        /// The orchestrator, like http://10.0.0.1:7700.
        #[arg(long, env = "FOG_ORCHESTRATOR", value_name = "URL")]
        orchestrator: Option<OrchestratorUrl>,
        /// The node's name.
        #[arg(long, env = "FOG_NODE", value_name = "NAME")]
        node: Option<String>,
        /// The bearer token, instead of the configured file.
        #[arg(env = "FOG_TOKEN", hide_env_values = true, long, value_name = "TOKEN", hide = true)]
        token: Option<String>,
    },
    /// Check whether this node can give and take containers.
    Doctor {
        #[command(flatten)]
        common: Common,
        /// Apply what is safe, then check again.
        #[arg(long)]
        fix: bool,
        /// How to print the report.
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Watches over memory that is on its way to a restored container; the agent starts it.
    #[command(name = "keep-pages", hide = true)]
    KeepPages,
    /// Print one sample, to see what the agent sees.
    Sample {
        #[command(flatten)]
        common: Common,
        /// How to print it.
        #[arg(long, value_enum, default_value_t = SampleOutput::Json)]
        output: SampleOutput,
    },
}

#[derive(Debug, Args)]
struct Common {
    /// The configuration file [default: /etc/fogshift/agent.toml, if it exists].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How to write the log, `text` or `json`, instead of the configuration's (to standard error; RUST_LOG says how much).
    #[arg(long, value_name = "FORMAT", env = "FOG_LOG_FORMAT")]
    log_format: Option<Format>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SampleOutput {
    Json,
}

fn main() -> ExitCode {
    if let Some(ended) = fog_stand_in::run() {
        return ended;
    }
    keep_memory_small();
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("fog-agent: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(dispatch(cli.command));
    // Whatever blocks in a system call does not hold the end up.
    runtime.shutdown_timeout(Duration::from_millis(200));
    ended.unwrap_or_else(|error| {
        eprintln!("fog-agent: {error}");
        ExitCode::FAILURE
    })
}

async fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::KeepPages => Ok(fog_agent::memory::keeper::run()),
        Command::Run { common, orchestrator, node, token } => {
            let config = Config::load(common.config.as_deref(), Overrides { orchestrator, node, token })?;
            log::start(common.log_format.unwrap_or(config.log_format), "info", "fog_agent", Some(lines::collect));
            let shutdown = CancellationToken::new();
            cancel_on_signals(shutdown.clone())?;
            agent::run(config, shutdown).await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Doctor { common, fix, output } => {
            let config = Config::load(common.config.as_deref(), Overrides::default())?;
            log::start(common.log_format.unwrap_or(config.log_format), "warn", "fog_agent", None);
            let done = if fix { doctor::fix::apply(&config).await } else { Vec::new() };
            let findings = doctor::examine(&config).await;
            print_findings(&findings, fix.then_some(&done), output)?;
            Ok(if findings.can_migrate { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Sample { common, output: SampleOutput::Json } => {
            let config = Config::load(common.config.as_deref(), Overrides::default())?;
            log::start(common.log_format.unwrap_or(config.log_format), "warn", "fog_agent", None);
            let mut sampler = Sampler::new(&config, Docker::new(&config.docker_socket)?);
            // Rates need two looks.
            sampler.sample(Vec::new()).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            say(&(serde_json::to_string_pretty(&sampler.sample(Vec::new()).await)? + "\n"))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn print_findings(findings: &doctor::Findings, done: Option<&Vec<String>>, output: Output) -> anyhow::Result<()> {
    if output == Output::Json {
        let mut report = serde_json::to_value(findings)?;
        if let Some(done) = done {
            report["done"] = serde_json::json!(done);
        }
        return say(&(serde_json::to_string_pretty(&report)? + "\n"));
    }
    let mut text = match done.map(Vec::as_slice) {
        None => String::new(),
        Some([]) => "Nothing to fix that can be fixed from here.\n\n".to_owned(),
        Some(done) => done.join("\n") + "\n\n",
    };
    let terminal = std::io::stdout().is_terminal();
    let width = if terminal {
        rustix::termios::tcgetwinsize(std::io::stdout()).map_or(100, |size| usize::from(size.ws_col).clamp(60, 140))
    } else {
        120
    };
    let colours = terminal && std::env::var_os("NO_COLOR").is_none();
    text.push_str(&doctor::table::render(findings, width, colours));
    say(&text)
}

/// Writes to standard output. A reader that has seen enough is no error.
fn say(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(anyhow!("cannot write to standard output: {error}"))
        }
        _ => Ok(()),
    }
}

fn cancel_on_signals(shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|error| anyhow!("cannot listen for SIGTERM: {error}"))?;
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(|error| anyhow!("cannot listen for SIGINT: {error}"))?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        shutdown.cancel();
    });
    Ok(())
}

/// Memory that is given back goes back to the system: glibc's default, an arena for each of many threads and thresholds that
/// grow, keeps more than all that a small node's agent needs.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code, reason = "glibc's allocator is set up before any other thread is there")]
fn keep_memory_small() {
    // SAFETY: these only set the allocator's own parameters.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 256 << 10);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 1 << 20);
    }
}

#[cfg(not(target_env = "gnu"))]
fn keep_memory_small() {}
