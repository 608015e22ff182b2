//! A node's process number 1: builds the node's file system view, enters it, says so, and reaps orphans ever after.
//!
//! It starts in fresh mount, PID, UTS, IPC and cgroup namespaces and in the node's network namespace.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_change, unmount,
};
use rustix::process::{WaitOptions, pivot_root, wait};
use serde::{Deserialize, Serialize};

/// What the first process of a node is told, as JSON in a file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HostSpec {
    pub(crate) hostname: String,
    /// The overlay's read-only layers, topmost first.
    pub(crate) lower: Vec<PathBuf>,
    /// Holds `upper`, `work`, `root` and `data`.
    pub(crate) directory: PathBuf,
    /// The v1 hierarchies to show; empty shows cgroup v2.
    pub(crate) v1_hierarchies: Vec<String>,
}

/// The line that tells the parent that the node is ready.
pub(crate) const READY: &str = "ready";

/// Runs as the node's first process; returns only on failure.
pub fn run(spec_path: &Path) -> Result<()> {
    let text = fs::read(spec_path).with_context(|| format!("cannot read {}", spec_path.display()))?;
    let spec: HostSpec = serde_json::from_slice(&text).context("the node's specification is damaged")?;
    rustix::system::sethostname(spec.hostname.as_bytes()).context("cannot set the host name")?;
    enter_root(&spec)?;
    println!("{READY}");
    io::stdout().flush().context("cannot report that the node is ready")?;
    // From here on nothing writes to standard output: the parent has gone.
    loop {
        if wait(WaitOptions::empty()).is_err() {
            sleep(Duration::from_millis(200)); // no children at the moment
        }
    }
}

fn enter_root(spec: &HostSpec) -> Result<()> {
    let root = spec.directory.join("root");
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .context("cannot make the mounts private")?;
    let lower: Vec<String> = spec.lower.iter().map(|path| path.display().to_string()).collect();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.join(":"),
        spec.directory.join("upper").display(),
        spec.directory.join("work").display()
    );
    attach("overlay", &root, "overlay", &options)
        .context("overlayfs refused: the lab's folder must be on ext4, xfs or btrfs (name another in FOG_LAB_DIR)")?;
    attach("proc", &root.join("proc"), "proc", "")?;
    attach("sysfs", &root.join("sys"), "sysfs", "")?;
    mount_cgroups(&root.join("sys/fs/cgroup"), &spec.v1_hierarchies)?;
    mount_bind_recursive("/dev", root.join("dev")).context("cannot mount dev")?;
    attach("tmpfs", &root.join("run"), "tmpfs", "mode=755")?;
    attach("tmpfs", &root.join("tmp"), "tmpfs", "mode=1777")?;
    fs::create_dir_all(root.join("run/fog-lab")).context("cannot create /run/fog-lab")?;
    // Docker's layers are overlays themselves, and an overlay cannot be the upper layer of another.
    bind(&spec.directory.join("data"), &root.join("var/lib/docker"))?;
    fs::create_dir_all(root.join("var/lib/containerd")).context("cannot create /var/lib/containerd")?;
    attach("tmpfs", &root.join("var/lib/containerd"), "tmpfs", "mode=711")?;
    if Path::new("/lib/modules").is_dir() {
        bind(Path::new("/lib/modules"), &root.join("usr/lib/modules"))?;
    }
    std::env::set_current_dir(&root).context("cannot enter the node's root")?;
    // Stacks the old root onto the new one, where the next line takes it off: no folder is needed for it.
    pivot_root(".", ".").context("cannot change the root")?;
    unmount(".", UnmountFlags::DETACH).context("cannot leave the machine's root")?;
    std::env::set_current_dir("/").context("cannot enter the node's root")
}

fn mount_cgroups(target: &Path, v1_hierarchies: &[String]) -> Result<()> {
    if v1_hierarchies.is_empty() {
        return attach("cgroup2", target, "cgroup2", "");
    }
    attach("tmpfs", target, "tmpfs", "mode=755")?;
    for controllers in v1_hierarchies {
        let name = controllers.strip_prefix("name=").unwrap_or(controllers);
        let directory = target.join(name);
        fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        attach("cgroup", &directory, "cgroup", controllers)?;
        if name.contains(',') {
            for controller in name.split(',') {
                symlink(name, target.join(controller)).context("cannot link a cgroup controller")?;
            }
        }
    }
    Ok(())
}

fn attach(source: &str, target: &Path, kind: &str, options: &str) -> Result<()> {
    let options = std::ffi::CString::new(options).context("a mount option contains a zero byte")?;
    mount(source, target, kind, MountFlags::empty(), options.as_c_str())
        .with_context(|| format!("cannot mount {kind} at {}", target.display()))
}

fn bind(source: &Path, target: &Path) -> Result<()> {
    fs::create_dir_all(target).with_context(|| format!("cannot create {}", target.display()))?;
    mount_bind(source, target).with_context(|| format!("cannot mount {} at {}", source.display(), target.display()))
}
