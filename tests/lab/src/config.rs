//! What a lab shall look like: nodes, their limits and links, and the short notations of the command line for them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// The Debian release of a node's root file system, and with it the versions of Docker, runc and CRIU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Suite {
    /// Docker 26.1, CRIU 4.1, runc 1.1.
    #[default]
    Trixie,
    /// Docker 28.5, CRIU 4.2, runc 1.3.
    Forky,
}

impl Suite {
    pub fn as_str(self) -> &'static str {
        match self {
            Suite::Trixie => "trixie",
            Suite::Forky => "forky",
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Suite {
    type Err = anyhow::Error;
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "trixie" => Ok(Suite::Trixie),
            "forky" => Ok(Suite::Forky),
            other => bail!("unknown suite {other:?}: use trixie or forky"),
        }
    }
}

/// Which cgroup layout a node sees below /sys/fs/cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupVersion {
    V1,
    V2,
}

impl CgroupVersion {
    pub fn as_str(self) -> &'static str {
        match self {
            CgroupVersion::V1 => "v1",
            CgroupVersion::V2 => "v2",
        }
    }
}

impl fmt::Display for CgroupVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for CgroupVersion {
    type Err = anyhow::Error;
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "v1" | "1" => Ok(CgroupVersion::V1),
            "v2" | "2" => Ok(CgroupVersion::V2),
            other => bail!("unknown cgroup version {other:?}: use v1 or v2"),
        }
    }
}

/// The properties of a node's network link; all unset means a plain, unlimited link.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// Bits a second in each direction.
    pub rate: Option<u64>,
    /// One-way delay in each direction; a ping sees twice this.
    pub delay: Duration,
    /// Each frame's delay is drawn evenly from `delay ± jitter`; the order of frames is kept.
    pub jitter: Duration,
    /// The fraction of frames that is lost, 0 to 1.
    pub loss: f64,
}

impl Link {
    /// Whether the link needs the emulator; a rate alone is left to the kernel.
    pub(crate) fn is_emulated(&self) -> bool {
        !self.delay.is_zero() || !self.jitter.is_zero() || self.loss > 0.0
    }
}

impl FromStr for Link {
    type Err = anyhow::Error;
    /// Parses `rate=20mbit,delay=40ms,jitter=2ms,loss=0.1%`.
    fn from_str(text: &str) -> Result<Self> {
        let mut link = Link::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (key, value) = part
                .split_once('=')
                .with_context(|| format!("link property {part:?} has no value: write key=value"))?;
            match key {
                "rate" => link.rate = Some(parse_rate(value)?),
                "delay" => link.delay = parse_duration(value)?,
                "jitter" => link.jitter = parse_duration(value)?,
                "loss" => link.loss = parse_fraction(value)?,
                other => bail!("unknown link property {other:?}: use rate, delay, jitter or loss"),
            }
        }
        Ok(link)
    }
}

/// One host of the lab.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeConfig {
    pub name: String,
    pub suite: Suite,
    /// `None` takes v1 where the machine has the controllers there, else v2.
    pub cgroup: Option<CgroupVersion>,
    /// CPU quota in CPUs, e.g. 0.5.
    pub cpus: Option<f64>,
    pub memory_bytes: Option<u64>,
    pub link: Link,
    /// By how much the node's clocks since boot (`CLOCK_MONOTONIC`, `CLOCK_BOOTTIME`) are ahead of this machine's: real
    /// machines were not booted at the same time either. Whole seconds.
    pub booted_earlier: Duration,
    /// Labels the node's agent reports, e.g. `site=turku`.
    pub labels: BTreeMap<String, String>,
}

impl NodeConfig {
    pub fn new(name: &str) -> Self {
        NodeConfig {
            name: name.to_owned(),
            suite: Suite::default(),
            cgroup: None,
            cpus: None,
            memory_bytes: None,
            link: Link::default(),
            booted_earlier: Duration::ZERO,
            labels: BTreeMap::new(),
        }
    }
}

/// What [`crate::Lab::up`] shall build.
#[derive(Clone, Debug)]
pub struct LabConfig {
    /// Distinguishes labs that run side by side.
    pub instance: String,
    pub nodes: Vec<NodeConfig>,
    /// Install and start fog-orchestrator and fog-agent.
    pub programs: bool,
    /// Where fog-agent, fog-runc and fog-orchestrator are; `None` is the folder of the fog-lab program.
    pub bin_dir: Option<PathBuf>,
    /// Placement policy handed to the orchestrator.
    pub policy: Option<PathBuf>,
    /// Debian packages on top of the lab's own list.
    pub packages: Vec<String>,
    /// Keys added to every node's /etc/docker/daemon.json.
    pub docker_options: serde_json::Map<String, serde_json::Value>,
    /// Load the image [`crate::images::BUSYBOX`] into every node.
    pub images: bool,
    /// Where instances keep their files; `None` is $FOG_LAB_DIR or /var/lib/fog-lab.
    pub directory: Option<PathBuf>,
    /// Seed of the emulated links' jitter and loss.
    pub seed: u64,
}

impl Default for LabConfig {
    fn default() -> Self {
        LabConfig {
            instance: "default".to_owned(),
            nodes: Vec::new(),
            programs: true,
            bin_dir: None,
            policy: None,
            packages: Vec::new(),
            docker_options: serde_json::Map::new(),
            images: true,
            directory: None,
            seed: 1,
        }
    }
}

impl LabConfig {
    /// A lab of plain nodes with the given names.
    pub fn new(instance: &str, nodes: &[&str]) -> Self {
        LabConfig {
            instance: instance.to_owned(),
            nodes: nodes.iter().map(|name| NodeConfig::new(name)).collect(),
            ..LabConfig::default()
        }
    }

    /// Changes every node.
    #[must_use]
    pub fn each_node(mut self, change: impl FnMut(&mut NodeConfig)) -> Self {
        self.nodes.iter_mut().for_each(change);
        self
    }

    /// Changes the node of that name, adding it when there is none.
    #[must_use]
    pub fn node(mut self, name: &str, change: impl FnOnce(&mut NodeConfig)) -> Self {
        let index = self.nodes.iter().position(|node| node.name == name).unwrap_or_else(|| {
            self.nodes.push(NodeConfig::new(name));
            self.nodes.len() - 1
        });
        change(&mut self.nodes[index]);
        self
    }

    #[must_use]
    pub fn programs(mut self, programs: bool) -> Self {
        self.programs = programs;
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        check_name("instance", &self.instance, 24)?;
        ensure!(!self.nodes.is_empty(), "a lab needs at least one node: name them with --nodes A,B,C,D");
        ensure!(self.nodes.len() <= 200, "a lab has at most 200 nodes");
        for (index, node) in self.nodes.iter().enumerate() {
            check_name("node", &node.name, 32)?;
            ensure!(
                self.nodes[..index].iter().all(|other| other.name != node.name),
                "two nodes are called {:?}: give each its own name",
                node.name
            );
            if let Some(cpus) = node.cpus {
                ensure!(
                    (0.01..=1024.0).contains(&cpus),
                    "node {}: {cpus} CPUs is out of range, use 0.01 or more",
                    node.name
                );
            }
        }
        Ok(())
    }
}

/// Names become parts of paths, cgroups and network namespaces: letters, digits, `-`, `_`, starting with a letter or digit.
pub(crate) fn check_name(kind: &str, name: &str, longest: usize) -> Result<()> {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    ensure!(
        plain && name.len() <= longest && name.starts_with(|c: char| c.is_ascii_alphanumeric()),
        "{name:?} is no usable {kind} name: use up to {longest} letters, digits, - and _, starting with a letter or digit"
    );
    Ok(())
}

/// Splits `A=0.5,B=0.25` into values of single nodes and `0.5` into a value for all of them (`None`).
pub fn parse_per_node<T>(text: &str, parse: impl Fn(&str) -> Result<T>) -> Result<Vec<(Option<String>, T)>> {
    text.split(',')
        .map(|part| match part.split_once('=') {
            Some((node, value)) => Ok((Some(node.to_owned()), parse(value)?)),
            None => Ok((None, parse(part)?)),
        })
        .collect()
}

/// Splits `D:rate=20mbit,delay=40ms` into the node and the rest.
pub fn parse_node_prefix(text: &str) -> Result<(String, String)> {
    let (node, rest) =
        text.split_once(':').with_context(|| format!("{text:?} names no node: write NODE:key=value,…"))?;
    Ok((node.to_owned(), rest.to_owned()))
}

/// Parses `site=turku,tier=edge`.
pub fn parse_labels(text: &str) -> Result<BTreeMap<String, String>> {
    text.split(',')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (key, value) = part.split_once('=').with_context(|| format!("label {part:?} is not key=value"))?;
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}

pub fn parse_cpus(text: &str) -> Result<f64> {
    text.parse()
        .ok()
        .filter(|cpus: &f64| cpus.is_finite() && *cpus > 0.0)
        .with_context(|| format!("{text:?} is no number of CPUs: use a positive number such as 0.5"))
}

/// Parses `512m`, `2g`, `64k`, `1048576`: powers of 1024.
pub fn parse_size(text: &str) -> Result<u64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches("ib").trim_end_matches('b');
    let (number, shift) = match digits.char_indices().next_back() {
        Some((at, 'k')) => (&digits[..at], 10),
        Some((at, 'm')) => (&digits[..at], 20),
        Some((at, 'g')) => (&digits[..at], 30),
        _ => (digits, 0),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .with_context(|| format!("{text:?} is no size: use a whole number with k, m or g, such as 512m"))
}

/// Parses `20mbit`, `1gbit`, `500kbit`, `9600bit` into bits a second.
pub fn parse_rate(text: &str) -> Result<u64> {
    let lower = text.to_ascii_lowercase();
    let problem = || format!("{text:?} is no rate: use kbit, mbit or gbit, such as 20mbit");
    let number = lower.strip_suffix("bit").with_context(problem)?;
    let (number, scale) = match number.char_indices().next_back() {
        Some((at, 'k')) => (&number[..at], 1e3),
        Some((at, 'm')) => (&number[..at], 1e6),
        Some((at, 'g')) => (&number[..at], 1e9),
        _ => (number, 1.0),
    };
    let value = number.parse::<f64>().ok().filter(|value| value.is_finite() && *value > 0.0).with_context(problem)?;
    Ok((value * scale) as u64)
}

/// Parses `40ms`, `1.5s`, `200us`.
pub fn parse_duration(text: &str) -> Result<Duration> {
    let problem = || format!("{text:?} is no duration: use us, ms or s, such as 40ms");
    let (number, scale) = if let Some(number) = text.strip_suffix("us") {
        (number, 1e-6)
    } else if let Some(number) = text.strip_suffix("ms") {
        (number, 1e-3)
    } else {
        (text.strip_suffix('s').with_context(problem)?, 1.0)
    };
    let value = number.parse::<f64>().ok().filter(|value| (0.0..=3600.0).contains(value)).with_context(problem)?;
    Ok(Duration::from_secs_f64(value * scale))
}

/// Parses `0.1%` or `0.001`.
pub fn parse_fraction(text: &str) -> Result<f64> {
    let (number, scale) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 0.01));
    number
        .parse::<f64>()
        .ok()
        .map(|value| value * scale)
        .filter(|value| (0.0..=1.0).contains(value))
        .with_context(|| format!("{text:?} is no fraction: use a percentage such as 0.1% or a number from 0 to 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("512m").expect("size"), 512 << 20);
        assert_eq!(parse_size("2GiB").expect("size"), 2 << 30);
        assert_eq!(parse_size("64kb").expect("size"), 64 << 10);
        assert_eq!(parse_size("4096").expect("size"), 4096);
        for wrong in ["", "m", "-1", "1.5g", "99999999999g", "12x"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rates_durations_and_fractions() {
        assert_eq!(parse_rate("20mbit").expect("rate"), 20_000_000);
        assert_eq!(parse_rate("1.5Gbit").expect("rate"), 1_500_000_000);
        assert_eq!(parse_rate("9600bit").expect("rate"), 9600);
        assert_eq!(parse_duration("40ms").expect("duration"), Duration::from_millis(40));
        assert_eq!(parse_duration("1.5s").expect("duration"), Duration::from_millis(1500));
        assert_eq!(parse_duration("250us").expect("duration"), Duration::from_micros(250));
        assert!((parse_fraction("0.1%").expect("fraction") - 0.001).abs() < 1e-12);
        assert!((parse_fraction("0.25").expect("fraction") - 0.25).abs() < 1e-12);
        for wrong in ["", "bit", "20", "20mb", "-1mbit", "0mbit"] {
            assert!(parse_rate(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "40", "ms", "-1ms", "1h"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "101%", "1.1", "-0.1", "x%"] {
            assert!(parse_fraction(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn links() {
        let link: Link = "rate=20mbit,delay=40ms,jitter=2ms,loss=0.1%".parse().expect("link");
        assert_eq!(link.rate, Some(20_000_000));
        assert_eq!(link.delay, Duration::from_millis(40));
        assert_eq!(link.jitter, Duration::from_millis(2));
        assert!((link.loss - 0.001).abs() < 1e-12);
        assert!(link.is_emulated());
        assert!(!"rate=20mbit".parse::<Link>().expect("link").is_emulated());
        assert!("speed=1mbit".parse::<Link>().is_err());
        assert!("delay".parse::<Link>().is_err());
    }

    #[test]
    fn values_per_node() {
        let some = parse_per_node("A=0.5,B=2", parse_cpus).expect("cpus");
        assert_eq!(some, vec![(Some("A".to_owned()), 0.5), (Some("B".to_owned()), 2.0)]);
        assert_eq!(parse_per_node("0.5", parse_cpus).expect("cpus"), vec![(None, 0.5)]);
        for wrong in ["A=", "A=zero", "A=-1", "A=0", "A=inf", "A=NaN"] {
            assert!(parse_per_node(wrong, parse_cpus).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_and_labels() {
        assert!(check_name("node", "edge-1", 32).is_ok());
        for wrong in ["", "-a", "_outside", "a/b", "..", "ä", "a b"] {
            assert!(check_name("node", wrong, 32).is_err(), "{wrong}");
        }
        let (node, rest) = parse_node_prefix("A:site=turku,tier=edge").expect("prefix");
        assert_eq!(node, "A");
        assert_eq!(parse_labels(&rest).expect("labels")["tier"], "edge");
        assert!(parse_labels("site").is_err());
        let twice = LabConfig::new("x", &["A", "A"]);
        assert!(twice.check().is_err());
    }
}
