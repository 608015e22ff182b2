//! `make chaos N=… SEED=…`; with OUT=FILE the summary is also written as JSON.

use std::process::Command;

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let number = |name: &str, default: u64| -> Result<u64> {
        match std::env::var(name) {
            Ok(text) => text.parse().with_context(|| format!("{name}={text}: expected a whole number")),
            Err(_) => Ok(default),
        }
    };
    let rounds = u32::try_from(number("N", 50)?).context("N is too large")?;
    let seed = number("SEED", u64::from(std::process::id()))?;
    let commit = commit(); // of the programs: the checkout may go on meanwhile
    let summary = fog_e2e::chaos::run(rounds, seed, &mut |line| println!("{line}"))?;
    println!("\n{rounds} migrations, seed {seed}: nothing lost, nothing doubled, nothing left behind\n{summary}");
    if let Some(file) = std::env::var_os("OUT") {
        let result = serde_json::json!({
            "what": "migrations of a looper between two real hosts under random faults; see tests/e2e/src/chaos.rs",
            "date": jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
            "commit": commit,
            "migrations": rounds,
            "seed": seed,
            "lost": 0,
            "doubled": 0,
            "left_behind": 0,
            "ends": summary,
        });
        std::fs::write(&file, format!("{result:#}\n")).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

fn commit() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output().ok()?;
    let name = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| name.trim().to_owned())
}
