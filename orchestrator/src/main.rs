//! `fog-orchestrator`: listens, plans, drives migrations, answers people.

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use fog_api::log::{self, Format};
use fog_orchestrator::{config::Config, lines, service};

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
    /// How the log reads, `text` or `json`, instead of the configuration's. Its level comes from RUST_LOG, for example
    /// `RUST_LOG=debug`.
    #[arg(long, value_name = "FORMAT", env = "FOG_LOG_FORMAT")]
    log_format: Option<Format>,
}

/// Every heartbeat is read into a hundred small pieces of memory: glibc's allocator takes a fifth of all CPU for them, and
/// keeps half as much again of what is in use.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut config = match &arguments.config {
        Some(file) => Config::read(file)?,
        None => Config::default(),
    };
    config.log_format = arguments.log_format.unwrap_or(config.log_format);
    log::start(config.log_format, "info", "fog_orchestrator", Some(lines::collect));
    if !arguments.listen.is_empty() {
        config.listen = arguments.listen;
    }
    config.data_dir = arguments.data_dir.unwrap_or(config.data_dir);
    config.policy = arguments.policy.or(config.policy);
    service::run(config).await.context("fog-orchestrator stopped")
}
