//! What an operator can set: a TOML file, with a few keys that the environment and flags override.
//!
//! Every value is checked while it is parsed, so that an error can point at the line and column it
//! stands in. Unknown keys are refused: a misspelt quota must not be a silent default.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Where the configuration is looked for when nobody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/fogshift/agent.toml";

/// What the agent's numbers are about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The whole machine.
    #[default]
    Host,
    /// The cgroup the agent sees as the root: the node is itself confined.
    Cgroup,
}

/// The agent's configuration.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The orchestrator's base address; only `run` needs it.
    pub orchestrator: Option<OrchestratorUrl>,
    /// A file that holds the bearer token. Read anew for every connection.
    pub token_file: PathBuf,
    /// The token itself. Comes from `FOG_TOKEN` only, never from a file that others may read.
    #[serde(skip)]
    pub token: Option<String>,
    /// The node's name, unique in the cluster.
    #[serde(deserialize_with = "node_name")]
    pub node: String,
    /// What CPU, memory and run queue are measured against.
    pub scope: Scope,
    /// Cores the node may use, where no cgroup file says it.
    #[serde(deserialize_with = "cores")]
    pub cpus: Option<f64>,
    /// Memory the node may use, where no cgroup file says it.
    pub memory_bytes: Option<u64>,
    /// Where other agents connect to (TCP) and send their probes to (UDP).
    pub transfer_listen: SocketAddr,
    /// The same as others reach it, `host:port`. Default: the local address towards the orchestrator.
    pub transfer_address: Option<HostPort>,
    /// Survives a restart: the journal and the lock.
    pub state_dir: PathBuf,
    /// Does not survive a boot: memory images. A tmpfs.
    pub run_dir: PathBuf,
    /// Docker's API socket.
    pub docker_socket: PathBuf,
    /// Docker's configuration file, which `doctor --fix` extends.
    pub docker_config: PathBuf,
    /// The restoring runtime that `doctor --fix` registers.
    pub fog_runc: PathBuf,
    /// Seconds between two samples until the orchestrator asks for something else.
    #[serde(deserialize_with = "sample_interval")]
    pub sample_interval_s: f64,
    /// Samples kept while the orchestrator is away; the oldest go first.
    #[serde(deserialize_with = "buffer_size")]
    pub buffer_samples: usize,
    /// How the log reads: `text` or `json`.
    pub log_format: fog_api::log::Format,
    /// What the operator says about the node: site, tier, power and so on.
    pub labels: BTreeMap<String, String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            orchestrator: None,
            token_file: "/etc/fogshift/token".into(),
            token: None,
            node: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            scope: Scope::Host,
            cpus: None,
            memory_bytes: None,
            transfer_listen: SocketAddr::from(([0, 0, 0, 0], 7710)),
            transfer_address: None,
            state_dir: "/var/lib/fogshift".into(),
            run_dir: "/run/fogshift".into(),
            docker_socket: "/var/run/docker.sock".into(),
            docker_config: "/etc/docker/daemon.json".into(),
            fog_runc: "/usr/local/bin/fog-runc".into(),
            sample_interval_s: 2.0,
            buffer_samples: 1800,
            log_format: fog_api::log::Format::Text,
            labels: BTreeMap::new(),
        }
    }
}

/// What flags and environment say; `None` leaves the file's value.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// See [`Config::orchestrator`].
    pub orchestrator: Option<OrchestratorUrl>,
    /// See [`Config::node`].
    pub node: Option<String>,
    /// See [`Config::token`].
    pub token: Option<String>,
}

/// Why there is no usable configuration. The text is a whole message for people.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {source}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file's content is wrong.
    #[error("{path}:{line}:{column}: {message}")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
        /// What is wrong and what was expected.
        message: String,
    },
    /// A value from a flag or the environment is wrong.
    #[error("{0}")]
    Override(String),
    /// There is no token.
    #[error("no token: set FOG_TOKEN or put it into {path} ({reason})")]
    NoToken {
        /// Where it was looked for.
        path: PathBuf,
        /// Why it was not found there.
        reason: String,
    },
}

impl Config {
    /// Reads `path`; without one the default file if it exists, else the defaults.
    pub fn load(path: Option<&Path>, overrides: Overrides) -> Result<Self, ConfigError> {
        let (path, optional) = path.map_or((Path::new(DEFAULT_PATH), true), |path| (path, false));
        let mut config = match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(path, &text)?,
            Err(error) if optional && error.kind() == std::io::ErrorKind::NotFound => Self::default(),
            Err(source) => return Err(ConfigError::Unreadable { path: path.to_owned(), source }),
        };
        if let Some(node) = overrides.node {
            config.node = check_node_name(node).map_err(ConfigError::Override)?;
        }
        config.orchestrator = overrides.orchestrator.or(config.orchestrator);
        config.token = overrides.token.filter(|token| !token.trim().is_empty());
        Ok(config)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| {
            let before = &text[..error.span().map_or(0, |span| span.start.min(text.len()))];
            ConfigError::Invalid {
                path: path.to_owned(),
                line: before.matches('\n').count() + 1,
                column: before.chars().rev().take_while(|&c| c != '\n').count() + 1,
                message: error.message().to_owned(),
            }
        })
    }

    /// The bearer token as it is now.
    pub fn read_token(&self) -> Result<String, ConfigError> {
        if let Some(token) = &self.token {
            return Ok(token.trim().to_owned());
        }
        let missing = |reason: String| ConfigError::NoToken { path: self.token_file.clone(), reason };
        let text = std::fs::read_to_string(&self.token_file).map_err(|error| missing(error.to_string()))?;
        match text.trim() {
            "" => Err(missing("the file is empty".to_owned())),
            token => Ok(token.to_owned()),
        }
    }
}

/// `http://HOST:PORT`, without a path.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct OrchestratorUrl {
    /// `host:port`, to connect to and to name in `Host:`.
    pub authority: String,
}

impl TryFrom<String> for OrchestratorUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let expected = || format!("expected an address like \"http://10.0.0.1:7700\", found {text:?}");
        let rest = text.strip_prefix("http://").ok_or_else(expected)?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let HostPort(authority) = match HostPort::try_from(authority.to_owned()) {
            Ok(complete) => complete,
            Err(_) => HostPort::try_from(format!("{authority}:80")).map_err(|_| expected())?,
        };
        Ok(Self { authority })
    }
}

impl std::str::FromStr for OrchestratorUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::try_from(text.to_owned())
    }
}

impl fmt::Display for OrchestratorUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

/// `host:port`; the host is a name, an IPv4 address or an IPv6 address in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HostPort(pub String);

impl TryFrom<String> for HostPort {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let valid = text.rsplit_once(':').is_some_and(|(host, port)| {
            let bracketed = host.starts_with('[') && host.ends_with(']');
            let plain = !host.is_empty() && !host.contains([':', '/', '@', '?', '#', ' ']);
            (bracketed || plain) && port.parse::<u16>().is_ok_and(|port| port != 0)
        });
        if valid { Ok(Self(text)) } else { Err(format!("expected \"host:port\", found {text:?}")) }
    }
}

fn check_node_name(name: String) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=63).contains(&name.len()) && name.chars().all(allowed) {
        Ok(name)
    } else {
        Err(format!("expected a node name of 1 to 63 letters, digits, '-', '_' or '.', found {name:?}"))
    }
}

fn node_name<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    check_node_name(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

fn cores<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let cpus = f64::deserialize(deserializer)?;
    if cpus.is_finite() && cpus > 0.0 {
        Ok(Some(cpus))
    } else {
        Err(serde::de::Error::custom(format!("expected a number of cores above 0, for example 0.5, found {cpus}")))
    }
}

fn sample_interval<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    if (0.2..=60.0).contains(&seconds) {
        Ok(seconds)
    } else {
        Err(serde::de::Error::custom(format!("expected seconds from 0.2 to 60, found {seconds}")))
    }
}

fn buffer_size<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let samples = usize::deserialize(deserializer)?;
    if (10..=100_000).contains(&samples) {
        Ok(samples)
    } else {
        Err(serde::de::Error::custom(format!("expected a number of samples from 10 to 100000, found {samples}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        Config::parse(Path::new("agent.toml"), text).expect_err("must be refused").to_string()
    }

    #[test]
    fn an_error_names_file_line_column_and_what_was_expected() {
        assert_eq!(
            message("node = \"a\"\nscope = \"pod\"\n"),
            "agent.toml:2:9: unknown variant `pod`, expected `host` or `cgroup`"
        );
        assert!(message("cpu = 1.0\n").starts_with("agent.toml:1:1: unknown field `cpu`, expected one of"));
        assert_eq!(
            message("# x\n\n  orchestrator = \"10.0.0.1:7700\"\n"),
            "agent.toml:3:18: expected an address like \"http://10.0.0.1:7700\", found \"10.0.0.1:7700\""
        );
        assert_eq!(message("sample_interval_s = 0.0"), "agent.toml:1:21: expected seconds from 0.2 to 60, found 0");
        assert_eq!(message("transfer_address = \"d\""), "agent.toml:1:20: expected \"host:port\", found \"d\"");
        assert!(message("cpus = -1.0").contains("expected a number of cores above 0"));
        assert!(message("token = \"secret\"").contains("unknown field `token`"));
    }

    #[test]
    fn the_committed_default_file_says_what_the_program_does() {
        let text = include_str!("../../config/agent.toml");
        let shipped = Config::parse(Path::new("agent.toml"), text).expect("valid");
        let defaults = Config::default();
        assert_eq!(shipped.orchestrator.clone().expect("set").to_string(), "http://127.0.0.1:7700");
        assert_eq!(Config { orchestrator: None, ..shipped }, defaults);

        let uncommented: String =
            text.lines().map(|line| line.strip_prefix("#= ").unwrap_or(line).to_owned() + "\n").collect();
        let everything = Config::parse(Path::new("agent.toml"), &uncommented).expect("valid with every example on");
        assert_eq!(everything.cpus, Some(0.5));
    }

    #[test]
    fn addresses() {
        for good in ["http://10.0.0.1:7700", "http://fog.example", "http://[::1]:7700/"] {
            assert!(OrchestratorUrl::try_from(good.to_owned()).is_ok(), "{good}");
        }
        for bad in ["https://x:1", "http://", "http://x:1/path", "http://u@x:1", "http://x:99999", "x"] {
            assert!(OrchestratorUrl::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_comes_from_the_environment_or_else_from_the_file_as_it_is_now() {
        let directory = tempfile::tempdir().expect("tempdir");
        let mut config = Config { token_file: directory.path().join("token"), ..Config::default() };
        assert!(config.read_token().expect_err("missing").to_string().contains("FOG_TOKEN"));
        std::fs::write(&config.token_file, "one\n").expect("write");
        assert_eq!(config.read_token().expect("read"), "one");
        std::fs::write(&config.token_file, "two\n").expect("write");
        assert_eq!(config.read_token().expect("read"), "two");
        config.token = Some("three".to_owned());
        assert_eq!(config.read_token().expect("read"), "three");
    }
}
