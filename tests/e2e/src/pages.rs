//! The workload that checks its own memory: its image, and what it said.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use fog_lab::images::{Image, ImageBuilder};
use fog_lab::{Node, wait_until};

use crate::cluster::{DEADLINE, programs};

/// The image's name.
pub const IMAGE: &str = "fog/pages:1";
const PROGRAM: &str = "/bin/fog-pages";

/// An image of the program and the libraries it is linked to.
pub fn image() -> Result<Image> {
    image_of(IMAGE, PROGRAM, "fog-pages")
}

/// An image of one of our programs and the libraries it is linked to, to be found in it at `path`.
pub fn image_of(name: &str, path: &str, program: &str) -> Result<Image> {
    let program = programs()?.join(program);
    ensure!(program.is_file(), "{} is not built: run `make build` first", program.display());
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let mut image = ImageBuilder::new(name).command(&[path]).file(path, 0o755, read(&program)?);
    let listed = Command::new("ldd").arg(&program).output().context("cannot run ldd")?;
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    for library in text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from) {
        image = image.file(&library.to_string_lossy(), 0o755, read(&library)?);
    }
    image.build()
}

/// Starts one that may run before all of its memory is there, and waits until it holds its memory.
pub fn run(node: &Node, name: &str, mib: u32, dirty_mib_per_s: u32) -> Result<()> {
    let (mib, dirty) = (mib.to_string(), dirty_mib_per_s.to_string());
    let label = ["--label", "fogshift.post-copy=allowed"];
    let command = ["docker", "run", "--detach", "--name", name, label[0], label[1], IMAGE, PROGRAM, &mib, &dirty];
    node.run(&command).with_context(|| format!("cannot start {name} on {}", node.name()))?;
    wait_until(DEADLINE, "its memory to be filled", || {
        Ok(node.run(&["docker", "logs", name])?.contains("ready").then_some(()))
    })
}

/// How often it has checked all of its memory. An error when any of it was wrong.
pub fn passes(node: &Node, name: &str) -> Result<u64> {
    let log = node.run(&["docker", "logs", name])?;
    if let Some(bad) = log.lines().find(|line| line.contains("BAD")) {
        bail!("{name} on {}: {bad}", node.name());
    }
    let last = log.lines().rev().find_map(|line| line.strip_prefix("pass ")?.split(' ').next()?.parse().ok());
    Ok(last.unwrap_or_default())
}

/// Waits until it has checked all of its memory twice more: once may have begun before.
pub fn checks_on(node: &Node, name: &str) -> Result<()> {
    let before = passes(node, name)?;
    wait_until(DEADLINE, "it to check all of its memory", || Ok((passes(node, name)? >= before + 2).then_some(())))
}
