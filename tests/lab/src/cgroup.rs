//! A node's share of the machine: one cgroup subtree per node in every hierarchy, with CPU quota and memory limit.
//!
//! The subtree is also the lab's register of processes: whatever runs for an instance is a member, so `down` finds
//! exactly those processes, whoever started them and whatever they are called.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::config::CgroupVersion;
use crate::wait::wait_until;

/// The folder of all labs in each hierarchy.
const TOP: &str = "fog-lab";
/// The CPU quota's period.
const PERIOD_US: u64 = 100_000;
const REAPED: Duration = Duration::from_secs(2);
/// On a pure v2 machine a cgroup with processes cannot hand out controllers, so a node's processes start in this child.
const LEAF: &str = "init";

/// One mounted cgroup hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// `cpu`, `cpuacct`, `name=systemd`, …; empty for v2.
    pub(crate) controllers: Vec<String>,
    pub(crate) mount: PathBuf,
}

impl Hierarchy {
    fn is_v2(&self) -> bool {
        self.controllers.is_empty()
    }
}

/// The machine's hierarchies: v1, v2, or both (hybrid).
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    hierarchies: Vec<Hierarchy>,
}

impl Layout {
    pub(crate) fn detect() -> Result<Layout> {
        let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
        let layout = Layout::parse(&mounts);
        ensure!(
            !layout.hierarchies.is_empty(),
            "no cgroup hierarchy is mounted below /sys/fs/cgroup: mount it with `mount -t cgroup2 cgroup2 /sys/fs/cgroup`"
        );
        Ok(layout)
    }

    fn parse(mounts: &str) -> Layout {
        const FLAGS: [&str; 12] = [
            "rw",
            "ro",
            "nosuid",
            "nodev",
            "noexec",
            "relatime",
            "noatime",
            "xattr",
            "clone_children",
            "cpuset_v2_mode",
            "seclabel",
            "noprefix",
        ];
        let mut hierarchies: Vec<Hierarchy> = Vec::new();
        for line in mounts.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let [_, mount, kind, options, ..] = fields[..] else { continue };
            let controllers: Vec<String> = match kind {
                "cgroup2" => Vec::new(),
                "cgroup" => options
                    .split(',')
                    .filter(|option| !FLAGS.contains(option) && !option.starts_with("release_agent="))
                    .map(str::to_owned)
                    .collect(),
                _ => continue,
            };
            let known = hierarchies.iter().any(|other| other.controllers == controllers);
            if mount.starts_with("/sys/fs/cgroup") && !known && (kind == "cgroup2" || !controllers.is_empty()) {
                hierarchies.push(Hierarchy { controllers, mount: PathBuf::from(mount) });
            }
        }
        Layout { hierarchies }
    }

    fn with_controller(&self, controller: &str) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|hierarchy| hierarchy.controllers.iter().any(|name| name == controller))
    }

    fn v2(&self) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|hierarchy| hierarchy.is_v2())
    }

    pub(crate) fn is_pure_v2(&self) -> bool {
        self.hierarchies.iter().all(Hierarchy::is_v2)
    }

    /// The layout a node gets when it asks for none, or an error when it asks for one the machine lacks.
    pub(crate) fn choose(&self, wanted: Option<CgroupVersion>) -> Result<CgroupVersion> {
        match wanted {
            Some(CgroupVersion::V1) if self.is_pure_v2() => bail!(
                "this machine has cgroup v2 only, so no node can see v1: use --cgroup v2, or boot with systemd.unified_cgroup_hierarchy=0"
            ),
            Some(CgroupVersion::V2) if self.v2().is_none() => {
                bail!("this machine has no cgroup v2 mounted: use --cgroup v1")
            }
            Some(version) => Ok(version),
            None if self.with_controller("cpu").is_some() => Ok(CgroupVersion::V1),
            None => Ok(CgroupVersion::V2),
        }
    }

    /// The v1 hierarchies' controller lists, joined as mount options (`cpu,cpuacct`).
    pub(crate) fn v1_mount_options(&self) -> Vec<String> {
        self.hierarchies
            .iter()
            .filter(|hierarchy| !hierarchy.is_v2())
            .map(|hierarchy| hierarchy.controllers.join(","))
            .collect()
    }
}

/// A cgroup of the same path in every hierarchy.
#[derive(Clone, Debug)]
pub(crate) struct Subtree {
    layout: Layout,
    path: PathBuf,
}

impl Subtree {
    /// The cgroup of a whole instance.
    pub(crate) fn of_instance(layout: &Layout, instance: &str) -> Subtree {
        Subtree { layout: layout.clone(), path: Path::new(TOP).join(instance) }
    }

    pub(crate) fn child(&self, name: &str) -> Subtree {
        Subtree { layout: self.layout.clone(), path: self.path.join(name) }
    }

    fn directories(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.layout.hierarchies.iter().map(|hierarchy| hierarchy.mount.join(&self.path))
    }

    pub(crate) fn exists(&self) -> bool {
        self.directories().any(|directory| directory.exists())
    }

    /// Creates the cgroup in every hierarchy, with its parents.
    pub(crate) fn create(&self) -> Result<()> {
        for hierarchy in &self.layout.hierarchies {
            let mut directory = hierarchy.mount.clone();
            for part in &self.path {
                let parent = directory.clone();
                directory.push(part);
                match fs::create_dir(&directory) {
                    Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                        return Err(error).with_context(|| format!("cannot create the cgroup {}", directory.display()));
                    }
                    _ => {}
                }
                // A fresh cpuset has no CPUs and no memory nodes, and then takes no process.
                if hierarchy.controllers.iter().any(|name| name == "cpuset") {
                    for file in ["cpuset.cpus", "cpuset.mems"] {
                        if read_trimmed(&directory.join(file))?.is_empty() {
                            write(&directory.join(file), &read_trimmed(&parent.join(file))?)?;
                        }
                    }
                }
                if self.layout.is_pure_v2() {
                    enable_controllers(&parent)?;
                }
                if directory.ends_with(&self.path) {
                    continue;
                }
                // What a node may use it shall get, also beside a compiler: labs go before the rest of the machine.
                for (file, highest) in [("cpu.shares", "262144"), ("cpu.weight", "10000")] {
                    if directory.join(file).exists() {
                        write(&directory.join(file), highest)?;
                    }
                }
            }
        }
        if self.layout.is_pure_v2() {
            self.child(LEAF).create_leaf()?;
        }
        Ok(())
    }

    fn create_leaf(&self) -> Result<()> {
        for directory in self.directories() {
            fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        }
        Ok(())
    }

    /// The files a process writes `0` to in order to become a member itself.
    pub(crate) fn join_files(&self) -> Vec<PathBuf> {
        let leaf = self.layout.is_pure_v2();
        self.directories()
            .map(|directory| if leaf { directory.join(LEAF) } else { directory })
            .map(|directory| directory.join("cgroup.procs"))
            .collect()
    }

    /// The files the first process of a node joins: the root of its cgroup namespace.
    pub(crate) fn namespace_join_files(&self) -> Vec<PathBuf> {
        self.directories().map(|directory| directory.join("cgroup.procs")).collect()
    }

    /// On a pure v2 machine: moves the first processes to the leaf, then lets the node hand out controllers.
    pub(crate) fn settle(&self) -> Result<()> {
        if !self.layout.is_pure_v2() {
            return Ok(());
        }
        for directory in self.directories() {
            for pid in read_trimmed(&directory.join("cgroup.procs"))?.lines() {
                write(&directory.join(LEAF).join("cgroup.procs"), pid)?;
            }
            enable_controllers(&directory)?;
        }
        Ok(())
    }

    /// Limits CPU time to `cpus` CPUs.
    pub(crate) fn set_cpu_quota(&self, cpus: f64) -> Result<()> {
        let quota = ((cpus * PERIOD_US as f64).round() as u64).max(1000);
        if let Some(hierarchy) = self.layout.with_controller("cpu") {
            let directory = hierarchy.mount.join(&self.path);
            write(&directory.join("cpu.cfs_period_us"), &PERIOD_US.to_string())?;
            return write(&directory.join("cpu.cfs_quota_us"), &quota.to_string());
        }
        write(&self.v2_file("cpu.max", "a CPU quota")?, &format!("{quota} {PERIOD_US}"))
    }

    pub(crate) fn set_memory_limit(&self, bytes: u64) -> Result<()> {
        if let Some(hierarchy) = self.layout.with_controller("memory") {
            return write(&hierarchy.mount.join(&self.path).join("memory.limit_in_bytes"), &bytes.to_string());
        }
        write(&self.v2_file("memory.max", "a memory limit")?, &bytes.to_string())
    }

    fn v2_file(&self, file: &str, wanted: &str) -> Result<PathBuf> {
        let path = self.layout.v2().map(|hierarchy| hierarchy.mount.join(&self.path).join(file));
        path.filter(|path| path.exists())
            .with_context(|| format!("this kernel offers no cgroup controller for {wanted}: leave the limit out"))
    }

    /// CPU time used so far by the whole subtree.
    pub(crate) fn cpu_usage(&self) -> Result<Duration> {
        if let Some(hierarchy) = self.layout.with_controller("cpuacct") {
            let text = read_trimmed(&hierarchy.mount.join(&self.path).join("cpuacct.usage"))?;
            return Ok(Duration::from_nanos(text.parse().context("cpuacct.usage is no number")?));
        }
        let stat = read_trimmed(&self.v2_file("cpu.stat", "CPU accounting")?)?;
        let usage = stat.lines().find_map(|line| line.strip_prefix("usage_usec "));
        let usage = usage.context("cpu.stat has no usage_usec")?;
        Ok(Duration::from_micros(usage.parse().context("usage_usec is no number")?))
    }

    /// Every process in the subtree, in any hierarchy.
    pub(crate) fn processes(&self) -> BTreeSet<i32> {
        let mut pids = BTreeSet::new();
        self.visit(&mut |directory| {
            let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
        });
        pids
    }

    /// Kills every member and waits until none is left. Frozen members are thawed, else they could not die.
    pub(crate) fn kill_all(&self, deadline: Duration) -> Result<()> {
        let mut killed = BTreeSet::new();
        wait_until(deadline, &format!("the processes in cgroup {} to end", self.path.display()), || {
            let pids = self.processes();
            if pids.is_empty() {
                return Ok(Some(()));
            }
            for pid in pids {
                self.kill(pid);
                killed.insert(pid);
            }
            self.visit(&mut |directory| {
                let _ = fs::write(directory.join("cgroup.freeze"), "0");
                let _ = fs::write(directory.join("freezer.state"), "THAWED");
            });
            Ok(None)
        })?;
        // The dead stay in the process list until their parents notice; usually, but not surely, that is soon.
        let gone = |pid: &i32| !Path::new("/proc").join(pid.to_string()).exists();
        let _ = wait_until(REAPED, "dead processes to be reaped", || Ok(killed.iter().all(gone).then_some(())));
        Ok(())
    }

    /// Kills one process unless its number meanwhile belongs to a stranger.
    fn kill(&self, pid: i32) {
        let Some(pid) = Pid::from_raw(pid) else { return };
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
        let member = format!(":/{}", self.path.display());
        let cgroups = fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero())).unwrap_or_default();
        if cgroups.lines().any(|line| line.contains(&member)) {
            let _ = pidfd_send_signal(&handle, Signal::KILL);
        }
    }

    /// Removes the cgroup with all its children, and the folder of all labs when it is empty.
    pub(crate) fn remove(&self) -> Result<()> {
        for hierarchy in &self.layout.hierarchies {
            let directory = hierarchy.mount.join(&self.path);
            let awaited = format!("the cgroup {} to be removable", directory.display());
            wait_until(Duration::from_secs(10), &awaited, || {
                visit(&directory, &mut |directory| {
                    let _ = fs::remove_dir(directory);
                });
                Ok((!directory.exists()).then_some(()))
            })?;
            if self.path.parent() == Some(Path::new(TOP)) {
                let _ = fs::remove_dir(hierarchy.mount.join(TOP)); // fails while another lab is up
            }
        }
        Ok(())
    }

    fn visit(&self, found: &mut dyn FnMut(&Path)) {
        for directory in self.directories() {
            visit(&directory, found);
        }
    }
}

/// Calls `found` for every cgroup at and below `directory`, children first.
fn visit(directory: &Path, found: &mut dyn FnMut(&Path)) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            visit(&entry.path(), found);
        }
    }
    found(directory);
}

fn enable_controllers(directory: &Path) -> Result<()> {
    for controller in read_trimmed(&directory.join("cgroup.controllers"))?.split_whitespace() {
        // One that cannot be enabled (cpuset with partitions, say) is simply not offered to the node.
        let _ = fs::write(directory.join("cgroup.subtree_control"), format!("+{controller}"));
    }
    Ok(())
}

fn read_trimmed(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.trim().to_owned())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {text:?} to {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_layout() {
        let layout = Layout::parse(
            "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,relatime,cpu,cpuacct 0 0\n\
             cgroup /sys/fs/cgroup/systemd cgroup rw,xattr,release_agent=/x,name=systemd 0 0\n\
             cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n\
             cgroup /mnt/elsewhere cgroup rw,memory 0 0\n",
        );
        assert_eq!(layout.v1_mount_options(), ["cpu,cpuacct", "name=systemd"]);
        assert!(!layout.is_pure_v2());
        assert_eq!(layout.choose(None).expect("a version"), CgroupVersion::V1);
        assert_eq!(layout.choose(Some(CgroupVersion::V2)).expect("a version"), CgroupVersion::V2);
        assert_eq!(layout.with_controller("cpuacct").expect("found").mount, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
    }

    #[test]
    fn pure_v2_layout() {
        let layout = Layout::parse("cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n");
        assert!(layout.is_pure_v2());
        assert_eq!(layout.choose(None).expect("a version"), CgroupVersion::V2);
        assert!(layout.choose(Some(CgroupVersion::V1)).is_err());
        let node = Subtree::of_instance(&layout, "x").child("A");
        assert_eq!(node.join_files(), [Path::new("/sys/fs/cgroup/fog-lab/x/A/init/cgroup.procs")]);
    }
}
