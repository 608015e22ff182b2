//! The migration engine alone, driven by hand: a command a line comes in as JSON, answers go out as JSON.
//!
//! `engine NODE STATE_DIR LISTEN`. What the orchestrator would send is typed or scripted instead; progress and the
//! engine's log go to standard error.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use fog_agent::engine::{Engine, EngineConfig};
use fog_api::agent::Command;
use tokio::sync::mpsc;

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::INFO).init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [node, state_dir, listen] = &arguments[..] else { anyhow::bail!("engine NODE STATE_DIR LISTEN") };
    let transfer_listen: SocketAddr = listen.parse().context("LISTEN is address:port")?;
    let engine = Engine::new(EngineConfig {
        node: node.clone(),
        state_dir: state_dir.into(),
        run_dir: "/run/fogshift".into(),
        images_dir: "/run/fogshift/images".into(),
        transfer_listen,
        docker_socket: "/var/run/docker.sock".into(),
    })?;
    engine.recover().await?;
    for serve in [true, false] {
        let engine = engine.clone();
        tokio::spawn(async move {
            let ended = if serve { engine.serve_transfers().await } else { engine.serve_runtime().await };
            eprintln!("a listener ended: {ended:?}");
        });
    }
    let (typed, mut lines) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            typed.blocking_send(line).ok();
        }
    });
    while let Some(line) = lines.recv().await {
        if line == "bandwidth" {
            println!("{}", serde_json::to_string(&engine.bandwidth())?);
            continue;
        }
        let command: Command = serde_json::from_str(&line)?;
        let engine = engine.clone();
        tokio::spawn(async move {
            let (sender, mut progress) = mpsc::channel(16);
            tokio::spawn(async move {
                while let Some(progress) = progress.recv().await {
                    eprintln!("{progress:?}");
                }
            });
            let answer = engine.run(command, sender).await;
            println!("{}", serde_json::to_string(&answer).unwrap_or_default());
        });
    }
    Ok(())
}
