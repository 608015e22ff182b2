//! The orchestrator's configuration file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use fog_api::log::Format;
use serde::Deserialize;

/// `orchestrator.toml`. Every key has a default.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Addresses to listen on, for people and agents alike.
    pub listen: Vec<SocketAddr>,
    /// Directory of `fogshift.db` and `token`; made if missing, readable by its owner only.
    pub data_dir: PathBuf,
    /// Policy file; without one the default policy is in force.
    pub policy: Option<PathBuf>,
    /// How long samples are kept as they came, in hours.
    pub keep_samples_h: u32,
    /// How long their means by the minute are kept, in days.
    pub keep_minutes_d: u32,
    /// How long their means by the hour are kept, in days.
    pub keep_hours_d: u32,
    /// How long events can be resumed from, and migrations' log lines and dead letters are kept, in hours.
    pub keep_events_h: u32,
    /// How long the audit is kept, in days.
    pub keep_audit_days: u32,
    /// How often an event is posted to a webhook before it becomes a dead letter.
    pub webhook_attempts: u32,
    /// The pause before the second attempt, in milliseconds; it doubles with every further one, up to 5 minutes.
    pub webhook_pause_ms: u32,
    /// Whether reading needs no token. Writing always needs one.
    pub anonymous_reads: bool,
    /// How the log reads: `text` or `json`.
    pub log_format: Format,
    /// A migration in which nothing moves for this long before its commit is rolled back, in seconds.
    pub stall_timeout_s: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 7700))],
            data_dir: PathBuf::from("/var/lib/fogshift/orchestrator"),
            policy: None,
            keep_samples_h: 6,
            keep_minutes_d: 3,
            keep_hours_d: 90,
            keep_events_h: 168,
            keep_audit_days: 365,
            webhook_attempts: 8,
            webhook_pause_ms: 1000,
            anonymous_reads: true,
            log_format: Format::Text,
            stall_timeout_s: 60,
        }
    }
}

impl Config {
    /// Reads a file. The error shows file, line, column and what was expected.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let config: Self =
            toml::from_str(&text).with_context(|| format!("{} is not a valid configuration", file.display()))?;
        anyhow::ensure!(!config.listen.is_empty(), "{}: listen: at least one address is needed", file.display());
        anyhow::ensure!(config.stall_timeout_s > 0, "{}: stall_timeout_s: must be above 0", file.display());
        // A sample that comes later than these allow would be lost: agents keep theirs for an hour.
        anyhow::ensure!(config.keep_samples_h >= 2, "{}: keep_samples_h: must be at least 2", file.display());
        anyhow::ensure!(
            i64::from(config.keep_minutes_d) * 24 >= i64::from(config.keep_samples_h).max(24),
            "{}: keep_minutes_d: must be at least 1 and no shorter than keep_samples_h",
            file.display()
        );
        anyhow::ensure!(
            config.keep_hours_d >= config.keep_minutes_d && config.keep_hours_d <= 3660,
            "{}: keep_hours_d: must be at least keep_minutes_d and at most 3660",
            file.display()
        );
        anyhow::ensure!(config.keep_events_h > 0, "{}: keep_events_h: must be above 0", file.display());
        anyhow::ensure!(config.webhook_attempts > 0, "{}: webhook_attempts: must be above 0", file.display());
        anyhow::ensure!(config.webhook_pause_ms > 0, "{}: webhook_pause_ms: must be above 0", file.display());
        anyhow::ensure!(config.keep_audit_days > 0, "{}: keep_audit_days: must be above 0", file.display());
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_file_says_the_defaults() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/orchestrator.toml");
        let committed = Config::read(&file).unwrap();
        assert_eq!(committed, Config { policy: committed.policy.clone(), ..Config::default() });
    }

    #[test]
    fn an_unknown_key_is_refused_by_name_and_place() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "\nlisten_on = 3\n").unwrap();
        let error = format!("{:#}", Config::read(file.path()).unwrap_err());
        assert!(error.contains("line 2") && error.contains("listen_on"), "{error}");
    }
}
