//! Asking other programs for their version.

use std::fmt;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// A program that does not come back within this time counts as failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a program said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Whether it exited with 0.
    pub success: bool,
    /// Its standard output, and behind it its standard error.
    pub text: String,
}

/// A version, as numbers to compare and as the program wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Major, minor, patch.
    pub numbers: [u32; 3],
    /// With everything a distribution adds.
    pub text: String,
}

impl Version {
    /// Finds the numbers at the beginning of `text`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let mut parts = text.trim_start_matches('v').splitn(3, '.').map(|part| {
            let digits = part.find(|c: char| !c.is_ascii_digit()).map_or(part, |end| &part[..end]);
            digits.parse::<u32>().ok()
        });
        let major = parts.next()??;
        let minor = parts.next().flatten().unwrap_or(0);
        let patch = parts.next().flatten().unwrap_or(0);
        Some(Self { numbers: [major, minor, patch], text: text.to_owned() })
    }

    /// Whether it is at least this one.
    pub fn at_least(&self, minimum: [u32; 3]) -> bool {
        self.numbers >= minimum
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Runs a program that ends by itself. `None` if it is not there or does not come back.
pub async fn ask(program: &str, arguments: &[&str]) -> Option<Said> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).env("LC_ALL", "C").kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.ok()?.ok()?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Some(Said { success: output.status.success(), text })
}

/// CRIU's version, if it is installed.
pub async fn criu_version() -> Option<Version> {
    version_after("Version:", &ask("criu", &["--version"]).await?.text)
}

/// runc's version, if it is installed.
pub async fn runc_version() -> Option<Version> {
    version_after("runc version", &ask("runc", &["--version"]).await?.text)
}

fn version_after(mark: &str, text: &str) -> Option<Version> {
    text.lines().find_map(|line| Version::parse(line.trim().strip_prefix(mark)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let numbers = |text: &str| Version::parse(text).map(|version| version.numbers);
        assert_eq!(numbers("1.1.15+ds1"), Some([1, 1, 15]));
        assert_eq!(numbers("4.2"), Some([4, 2, 0]));
        assert_eq!(numbers("6.18.44-fc-v657"), Some([6, 18, 44]));
        assert_eq!(numbers("v29.0.0-rc.1"), Some([29, 0, 0]));
        assert_eq!(numbers("dev"), None);
        assert_eq!(
            version_after("runc version", "runc version 1.3.6+ds1\ncommit: 1\n").expect("found").text,
            "1.3.6+ds1"
        );
        assert_eq!(version_after("Version:", "Version: 4.1.1\nGitID: x\n").expect("found").numbers, [4, 1, 1]);
    }

    #[tokio::test]
    async fn a_missing_program_is_no_error() {
        assert_eq!(ask("no-such-program-anywhere", &[]).await, None);
    }
}
