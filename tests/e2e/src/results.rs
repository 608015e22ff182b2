//! Figures that are committed as data.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// The checkout's commit, short; ask before a long run, for it may go on meanwhile.
pub fn commit() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output().ok()?;
    let name = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| name.trim().to_owned())
}

/// Puts a run's figures under its name into a file of several runs, with the day and the commit.
pub fn keep(file: &Path, run: &str, commit: Option<&str>, mut figures: Value) -> Result<()> {
    let known = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "{}".to_owned(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    let mut runs: Value = serde_json::from_str(&known).with_context(|| format!("{} is not JSON", file.display()))?;
    figures["date"] = json!(jiff::Timestamp::now().strftime("%Y-%m-%d").to_string());
    figures["commit"] = json!(commit);
    runs[run] = figures;
    std::fs::write(file, format!("{runs:#}\n")).with_context(|| format!("cannot write {}", file.display()))
}
