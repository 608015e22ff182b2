//! `make chaos N=… SEED=…`

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
    let summary = fog_e2e::chaos::run(rounds, seed, &mut |line| println!("{line}"))?;
    println!("\n{rounds} migrations, seed {seed}: nothing lost, nothing doubled, nothing left behind\n{summary}");
    Ok(())
}
