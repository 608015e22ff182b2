//! Running the machine's own tools (`ip`, `tc`, …): a failure carries the command line and what the tool said.

use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

/// Runs `program` and returns its standard output; a non-zero exit status is an error.
pub(crate) fn run<S: AsRef<str>>(program: &str, arguments: &[S]) -> Result<String> {
    let arguments: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
    let output = Command::new(program)
        .args(&arguments)
        .output()
        .with_context(|| format!("cannot run {program}: is it installed?"))?;
    succeed(&format!("{program} {}", arguments.join(" ")), output)
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Splits a line into words and runs it: `run_line("ip link set eth0 up")`.
pub(crate) fn run_line(line: &str) -> Result<String> {
    let mut words = line.split_whitespace();
    let program = words.next().context("empty command line")?;
    run(program, &words.collect::<Vec<_>>())
}

/// Turns a non-zero exit status into an error that shows what the program wrote.
pub(crate) fn succeed(shown: &str, output: Output) -> Result<Output> {
    if output.status.success() {
        return Ok(output);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8_lossy(&output.stdout);
    let said = if stderr.trim().is_empty() { stdout.trim() } else { stderr.trim() };
    bail!("`{shown}` failed ({}): {said}", output.status)
}

/// The last `count` lines of a text, for error messages that quote a log.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
