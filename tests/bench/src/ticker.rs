//! The workload: its image, and the gaps that it printed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fog_lab::images::{Image, ImageBuilder};
use fog_lab::{Node, wait_until};

/// The image's name.
pub const IMAGE: &str = "fog/ticker:1";
/// Where the program is, in the image and on the hosts.
pub const PROGRAM: &str = "/bin/fog-ticker";

/// The program that was built beside this one.
pub fn program() -> Result<PathBuf> {
    let program = std::env::current_exe().context("cannot find out which program is running")?;
    let ticker = program.with_file_name("fog-ticker");
    ensure!(ticker.is_file(), "{} is not built: run `cargo build --release -p fog-bench`", ticker.display());
    Ok(ticker)
}

/// The program and the libraries it is linked to: where they are, and where they belong.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let listed = Command::new("ldd").arg(program).output().context("cannot run ldd")?;
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    Ok(text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

/// An image of nothing but the ticker.
pub fn image() -> Result<Image> {
    let program = program()?;
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let mut image = ImageBuilder::new(IMAGE).command(&[PROGRAM]).file(PROGRAM, 0o755, read(&program)?);
    for library in libraries(&program)? {
        image = image.file(&library.to_string_lossy(), 0o755, read(&library)?);
    }
    image.build()
}

/// The largest gap that began at `since` (microseconds since 1970) or later, in milliseconds.
pub fn largest_gap_ms(printed: &str, since: u128) -> Option<f64> {
    let gaps = printed.lines().filter_map(|line| {
        let (length, began) = line.strip_prefix("gap ")?.split_once(' ')?;
        let (length, began): (u32, u128) = (length.parse().ok()?, began.trim().parse().ok()?);
        (began >= since).then_some(f64::from(length) / 1e3)
    });
    gaps.max_by(f64::total_cmp)
}

/// Pages that a ticker changes in a second, from its last two signs of life.
pub fn changed_a_second(node: &Node, name: &str) -> Result<f64> {
    wait_until(Duration::from_secs(30), "the ticker to say how much it changes", || {
        Ok(rate(&node.run(&["docker", "logs", "--tail", "100", name])?))
    })
}

fn rate(printed: &str) -> Option<f64> {
    let said = printed.lines().filter_map(|line| {
        let (_, rest) = line.strip_prefix("tick ")?.split_once(" changed ")?;
        let (changed, at) = rest.split_once(' ')?;
        Some((changed.parse::<f64>().ok()?, at.trim().parse::<f64>().ok()?))
    });
    let said: Vec<_> = said.collect();
    let [.., (before, from), (after, to)] = said[..] else { return None };
    Some((after - before) / (to - from) * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        let printed =
            "tick 1 2 changed 0 1000000\ntick 5 2 changed 100 2000000\ngap 7 3\ntick 9 2 changed 300 2500000\n";
        assert_eq!(rate(printed), Some(400.0));
        assert_eq!(rate("tick 1 2 changed 0 1\n"), None);
    }

    #[test]
    fn gaps() {
        let printed = "tick 1 2\ngap 90000 1000\ngap 7000 2000\ngap 12500 3000\n";
        assert_eq!(largest_gap_ms(printed, 2000), Some(12.5));
        assert_eq!(largest_gap_ms(printed, 1000), Some(90.0));
        assert_eq!(largest_gap_ms(printed, 4000), None);
    }
}
