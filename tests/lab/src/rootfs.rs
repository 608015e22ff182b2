//! The nodes' root file systems: Debian trees built once by debootstrap and shared read-only by every node of a suite.
//!
//! A tree is built in a temporary folder and renamed when complete, under a lock: an interrupted build never looks
//! finished, and two labs that need the same tree build it once.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::command::last_lines;
use crate::config::Suite;

/// What every node needs: Docker, CRIU and the tools Fogshift and its tests call.
const PACKAGES: [&str; 12] = [
    "ca-certificates",
    "docker.io",
    "docker-cli",
    "criu",
    "iproute2",
    "iptables",
    "nftables",
    "busybox-static",
    "procps",
    "kmod",
    "curl",
    "jq",
];
const CACHE: &str = "/var/cache/fog-lab";
const SCRIPTS: &str = "/usr/share/debootstrap/scripts";

/// Returns the folder of the suite's tree for nodes, building it first when it is not there.
pub(crate) fn ensure(suite: Suite, extra: &[String], progress: &dyn Fn(&str)) -> Result<PathBuf> {
    let packages: Vec<&str> = PACKAGES.iter().copied().chain(extra.iter().map(String::as_str)).collect();
    tree(suite, packages, progress)
}

/// A tree of the suite with these packages, to take the contents of images from; built first when it is not there.
pub fn tree(suite: Suite, mut packages: Vec<&str>, progress: &dyn Fn(&str)) -> Result<PathBuf> {
    packages.sort_unstable();
    packages.dedup();
    let list = packages.join(",");
    let hash = Sha256::digest(list.as_bytes());
    let name = format!("{suite}-{:02x}{:02x}{:02x}{:02x}", hash[0], hash[1], hash[2], hash[3]);

    let cache = PathBuf::from(std::env::var_os("FOG_LAB_CACHE").unwrap_or_else(|| CACHE.into()));
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let tree = cache.join(&name);
    if tree.exists() {
        return Ok(tree);
    }
    let lock_path = cache.join(format!("{name}.lock"));
    let lock = File::create(&lock_path).with_context(|| format!("cannot create {}", lock_path.display()))?;
    if lock.try_lock().is_err() {
        progress(&format!("waiting for another lab that builds the {suite} root file system"));
        lock.lock().context("cannot lock the root file system cache")?;
    }
    if tree.exists() {
        return Ok(tree);
    }
    let partial = cache.join(format!(".{name}.partial"));
    remove(&partial)?;
    progress(&format!("building the {suite} root file system (once, downloads about 200 MB)"));
    let start = Instant::now();
    let log_path = cache.join(format!("{name}.log"));
    debootstrap(suite, &list, &partial, &log_path, progress)?;
    trim(&partial);
    fs::rename(&partial, &tree).with_context(|| format!("cannot move the finished tree to {}", tree.display()))?;
    progress(&format!("built the {suite} root file system in {:.0} s", start.elapsed().as_secs_f64()));
    Ok(tree)
}

fn debootstrap(suite: Suite, packages: &str, target: &Path, log_path: &Path, progress: &dyn Fn(&str)) -> Result<()> {
    // In its own mount and PID namespaces, so that an interrupted debootstrap leaves neither mounts nor processes.
    let mut command = Command::new("setpriv");
    command.args([
        "--pdeathsig",
        "KILL",
        "--",
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]);
    command.args(["debootstrap", "--variant=minbase", &format!("--include={packages}"), suite.as_str()]);
    command.arg(target).arg(std::env::var("FOG_LAB_MIRROR").unwrap_or_default());
    if !Path::new(SCRIPTS).join(suite.as_str()).exists() {
        command.arg(Path::new(SCRIPTS).join("sid")); // an older debootstrap does not know the newest suite
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().context("cannot run debootstrap: install the package debootstrap")?;
    let stdout = child.stdout.take().context("debootstrap has no output")?;
    let mut log = File::create(log_path).with_context(|| format!("cannot create {}", log_path.display()))?;
    let mut reported = Instant::now();
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        writeln!(log, "{line}").context("cannot write debootstrap's log")?;
        if reported.elapsed() > Duration::from_secs(5) {
            progress(&format!("{suite}: {}", line.trim_start_matches("I: ")));
            reported = Instant::now();
        }
    }
    let status = child.wait().context("cannot wait for debootstrap")?;
    if !status.success() {
        let own = fs::read_to_string(target.join("debootstrap/debootstrap.log")).unwrap_or_default();
        let said = fs::read_to_string(log_path).unwrap_or_default();
        bail!(
            "debootstrap could not build {suite} ({status}); its last words:\n{}\n{}\nCheck the network, or name a mirror in FOG_LAB_MIRROR; full log: {}",
            last_lines(&said, 5),
            last_lines(&own, 5),
            log_path.display()
        );
    }
    Ok(())
}

/// Drops what no node needs; failing to is harmless.
fn trim(tree: &Path) {
    for folder in ["var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"]
    {
        let _ = fs::remove_dir_all(tree.join(folder));
    }
    let _ = fs::create_dir_all(tree.join("var/cache/apt/archives/partial"));
    let _ = fs::create_dir_all(tree.join("var/lib/apt/lists/partial"));
}

fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove the interrupted build {}", directory.display()))
        }
        _ => Ok(()),
    }
}
