//! Starting a node: its folders, its link, its first process, its limits.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cgroup::Subtree;
use crate::command::last_lines;
use crate::config::{CgroupVersion, Link};
use crate::daemon::{Daemon, Place};
use crate::host_init::{HostSpec, READY};
use crate::network::Network;
use crate::node::{Node, clean_environment, joining};
use crate::state::ProcessId;
use crate::wait::wait_until;

/// What all nodes of a lab share.
pub(crate) struct Site<'a> {
    pub(crate) directory: &'a Path,
    /// The copy of the fog-lab program that runs this lab.
    pub(crate) program: &'a Path,
    /// Where programs beside the nodes are members.
    pub(crate) outside: &'a Subtree,
    pub(crate) v1_hierarchies: &'a [String],
    /// /etc/hosts of every node.
    pub(crate) hosts_file: &'a str,
    pub(crate) seed: u64,
}

/// Brings the node up as far as an empty Debian: returns the identity of its first process.
pub(crate) fn start(node: &Node, site: &Site<'_>) -> Result<ProcessId> {
    connect(node, site).with_context(|| format!("cannot connect node {}", node.name()))?;
    start_init(node, site).with_context(|| format!("cannot start node {}", node.name()))
}

fn connect(node: &Node, site: &Site<'_>) -> Result<()> {
    let (name, index, link) = (node.name(), node.state.index, &node.state.link);
    if link.is_emulated() {
        let emulator = start_emulator(node, site, link)?;
        node.network
            .create_emulated_node(name, index)
            .with_context(|| format!("the link emulator said: {}", emulator.last_log_lines(5)))?;
    } else {
        node.network.create_node(name, index)?;
    }
    if link.rate.is_some() {
        node.network.set_rate(name, index, link.rate)?;
    }
    Ok(())
}

fn start_emulator<'a>(node: &Node, site: &'a Site<'_>, link: &Link) -> Result<Daemon<'a>> {
    let emulator = Daemon {
        name: format!("link-{}", node.name()),
        place: Place::Outside { directory: site.directory, join: site.outside.join_files() },
    };
    let netns = format!("--net={}", node.network.switch_path().display());
    let seed = site.seed.wrapping_add(u64::from(node.state.index));
    emulator.start(&[
        "nsenter",
        &netns,
        &site.program.display().to_string(),
        "link-emulator",
        &Network::port(node.state.index),
        &Network::host_tap(node.state.index),
        &format!("--delay-us={}", link.delay.as_micros()),
        &format!("--jitter-us={}", link.jitter.as_micros()),
        &format!("--loss={}", link.loss),
        &format!("--seed={seed}"),
    ])?;
    Ok(emulator)
}

fn start_init(node: &Node, site: &Site<'_>) -> Result<ProcessId> {
    let directory = &node.directory;
    for folder in ["upper/etc", "upper/var/log", "work", "root", "data"] {
        create_public(directory, Path::new(folder))?;
    }
    let etc = directory.join("upper/etc");
    write(&etc.join("hostname"), &format!("{}\n", node.name()))?;
    write(&etc.join("hosts"), site.hosts_file)?;
    let spec = HostSpec {
        hostname: node.name().to_owned(),
        lower: vec![site.directory.join("layer"), node.state.rootfs.clone()],
        directory: directory.clone(),
        v1_hierarchies: match node.state.cgroup {
            CgroupVersion::V1 => site.v1_hierarchies.to_vec(),
            CgroupVersion::V2 => Vec::new(),
        },
    };
    let spec_path = directory.join("host.json");
    write(&spec_path, &serde_json::to_string(&spec).context("cannot write the node's specification")?)?;

    let log_path = directory.join("init.log");
    let log = File::create(&log_path).with_context(|| format!("cannot create {}", log_path.display()))?;
    let ahead = node.state.booted_earlier.as_secs();
    let mut command = joining(&node.subtree.namespace_join_files());
    clean_environment(&mut command);
    command
        .arg("nsenter")
        .arg(format!("--net={}", node.network.netns_path(node.name()).display()))
        .args(["setsid", "--fork", "unshare", "--mount", "--pid", "--fork", "--uts", "--ipc", "--cgroup", "--time"])
        .arg(format!("--monotonic={ahead}"))
        .arg(format!("--boottime={ahead}"))
        .arg(site.program)
        .arg("host-init")
        .arg(&spec_path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log);
    let mut child = command.spawn().context("cannot run /bin/sh")?;
    let stdout = child.stdout.take().context("the first process has no output")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).context("cannot hear from the first process")?;
    child.wait().context("cannot wait for setsid")?;
    if line.trim() != READY {
        let log = fs::read_to_string(&log_path).unwrap_or_default();
        bail!("its first process gave up:\n{}", last_lines(&log, 10));
    }
    node.subtree.settle()?;
    wait_until(Duration::from_secs(5), "the node's first process to show up", || Ok(find_init(&node.subtree)))
}

/// The member that is number 1 in its PID namespace. Nothing else runs in the node yet.
fn find_init(subtree: &Subtree) -> Option<ProcessId> {
    let is_first = |pid: &i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
        let numbers: Vec<&str> = numbers.split_whitespace().collect();
        numbers.len() > 1 && numbers.last() == Some(&"1")
    };
    let pid = subtree.processes().into_iter().find(is_first)?;
    ProcessId::read(Path::new("/proc"), pid)
}

/// Creates the folders of `inner` below `base`, readable for all whatever the umask: they become a node's own folders.
pub(crate) fn create_public(base: &Path, inner: &Path) -> Result<PathBuf> {
    fs::create_dir_all(base).with_context(|| format!("cannot create {}", base.display()))?;
    let mut directory = base.to_owned();
    for part in inner {
        directory.push(part);
        fs::create_dir_all(&directory)
            .and_then(|()| fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("cannot create {}", directory.display()))?;
    }
    Ok(directory)
}

pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o644)))
        .with_context(|| format!("cannot write {}", path.display()))
}
