//! `fog-orchestrator`: listens, plans, drives migrations, answers people.

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use fog_orchestrator::{config::Config, lines::MigrationLines, service};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// Fogshift's orchestrator: collects what the agents see, decides what moves, and moves it.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// Configuration file (TOML). Without one, every setting has its default.
    #[arg(long, value_name = "FILE", env = "FOG_ORCHESTRATOR_CONFIG")]
    config: Option<PathBuf>,
    /// Address to listen on, instead of the configuration's; may be repeated.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Vec<std::net::SocketAddr>,
    /// Directory of the database and the token, instead of the configuration's.
    #[arg(long, value_name = "DIR", env = "FOG_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Policy file, instead of the configuration's.
    #[arg(long, value_name = "FILE", env = "FOG_POLICY")]
    policy: Option<PathBuf>,
    /// How the log reads. Its level comes from RUST_LOG, for example `RUST_LOG=debug`.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, env = "FOG_LOG_FORMAT")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr);
    let log = match arguments.log_format {
        LogFormat::Text => log.boxed(),
        LogFormat::Json => log.json().boxed(),
    };
    let ours = Targets::new().with_target("fog_orchestrator", LevelFilter::DEBUG);
    tracing_subscriber::registry().with(log.with_filter(filter)).with(MigrationLines.with_filter(ours)).init();
    let mut config = match &arguments.config {
        Some(file) => Config::read(file)?,
        None => Config::default(),
    };
    if !arguments.listen.is_empty() {
        config.listen = arguments.listen;
    }
    config.data_dir = arguments.data_dir.unwrap_or(config.data_dir);
    config.policy = arguments.policy.or(config.policy);
    service::run(config).await.context("fog-orchestrator stopped")
}
