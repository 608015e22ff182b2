//! `make chaos N=… SEED=…` (LABS and ORACLES: how much at once; FAULTS=kill-agent,flip-bit: these alone); with OUT=FILE the
//! summary is also written as JSON.

use std::process::Command;

use anyhow::{Context, Result};
use fog_e2e::chaos::{Fault, Plan};

fn main() -> Result<()> {
    let number = |name: &str, default: u64| -> Result<u64> {
        match std::env::var(name) {
            Ok(text) => text.parse().with_context(|| format!("{name}={text}: expected a whole number")),
            Err(_) => Ok(default),
        }
    };
    let few = |name: &str, default: u64| -> Result<u32> {
        Ok(u32::try_from(number(name, default)?).with_context(|| format!("{name} is too large"))?.max(1))
    };
    let plan = Plan {
        migrations: few("N", 50)?,
        seed: number("SEED", u64::from(std::process::id()))?,
        labs: few("LABS", 2)?,
        oracles: few("ORACLES", 4)?,
        faults: match std::env::var("FAULTS") {
            Ok(names) => names.split(',').map(Fault::named).collect::<Result<_>>()?,
            Err(_) => Vec::new(),
        },
    };
    let commit = commit(); // of the programs: the checkout may go on meanwhile
    let began = std::time::Instant::now();
    let summary = fog_e2e::chaos::run(&plan, &|line| println!("{line}"))?;
    let took_s = began.elapsed().as_secs();
    println!(
        "\nseed {}, {took_s} s: nothing lost, nothing doubled, no memory wrong, nothing left behind\n{summary}",
        plan.seed
    );
    if let Some(file) = std::env::var_os("OUT") {
        let result = serde_json::json!({
            "what": "migrations of oracles between two real hosts under random faults, heard by a witness; see tests/e2e/src/chaos.rs",
            "date": jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
            "commit": commit,
            "seed": plan.seed,
            "took_s": took_s,
            "lost": 0,
            "doubled": 0,
            "memory_wrong": 0,
            "left_behind": 0,
            "summary": summary,
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
