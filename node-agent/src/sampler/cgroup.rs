//! Cgroup files of both versions, for the node itself and for its containers.
//!
//! Paths are taken as this process sees them: a node that is confined in its own cgroup namespace
//! finds its own subtree at the root of `/sys/fs/cgroup`. Every question may go unanswered, since
//! on a version 2 hierarchy a controller may be bound elsewhere; the caller then falls back.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Which hierarchy the controllers are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// A hierarchy for each controller.
    V1,
    /// Version 1 for the controllers, and an empty version 2 beside them.
    Hybrid,
    /// One hierarchy.
    V2,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Layout::V1 => "v1",
            Layout::Hybrid => "hybrid",
            Layout::V2 => "v2",
        })
    }
}

/// The cgroup file systems of this node.
#[derive(Debug, Clone)]
pub struct Cgroups {
    root: PathBuf,
    /// Which hierarchy the controllers are on; `None` where nothing is mounted.
    pub layout: Option<Layout>,
}

/// Where a process stands in each hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    cpu: String,
    memory: String,
    unified: String,
}

impl Membership {
    /// The root as this process sees it.
    pub fn root() -> Self {
        Self { cpu: String::new(), memory: String::new(), unified: String::new() }
    }

    /// Parses `/proc/PID/cgroup`. `None` if the process is outside of what this one may see.
    pub fn parse(text: &str) -> Option<Self> {
        let mut found = Self::root();
        for line in text.lines() {
            let mut fields = line.splitn(3, ':');
            let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            if path.split('/').any(|part| part == "..") {
                return None;
            }
            let path = path.trim_start_matches('/').to_owned();
            match controllers {
                "" => found.unified = path,
                list => {
                    for controller in list.split(',') {
                        match controller {
                            "cpuacct" => found.cpu.clone_from(&path),
                            "memory" => found.memory.clone_from(&path),
                            _ => {}
                        }
                    }
                }
            }
        }
        Some(found)
    }
}

impl Cgroups {
    /// Looks at `/sys/fs/cgroup`.
    pub fn detect() -> Self {
        Self::at(Path::new("/sys/fs/cgroup"))
    }

    fn at(root: &Path) -> Self {
        let layout = if root.join("cgroup.controllers").exists() {
            Some(Layout::V2)
        } else if !["cpuacct", "cpu,cpuacct", "memory", "freezer"].iter().any(|name| root.join(name).is_dir()) {
            None
        } else if root.join("unified/cgroup.controllers").exists() {
            Some(Layout::Hybrid)
        } else {
            Some(Layout::V1)
        };
        Self { root: root.to_owned(), layout }
    }

    fn v2(&self) -> bool {
        self.layout == Some(Layout::V2)
    }

    fn cpu_dir(&self, group: &Membership) -> PathBuf {
        if self.v2() {
            return self.root.join(&group.unified);
        }
        let controller = ["cpuacct", "cpu,cpuacct"].iter().map(|name| self.root.join(name)).find(|dir| dir.is_dir());
        controller.unwrap_or_else(|| self.root.join("cpuacct")).join(&group.cpu)
    }

    fn memory_dir(&self, group: &Membership) -> PathBuf {
        if self.v2() { self.root.join(&group.unified) } else { self.root.join("memory").join(&group.memory) }
    }

    /// CPU time used by the group since it was made.
    pub fn cpu_usage(&self, group: &Membership) -> Option<Duration> {
        let directory = self.cpu_dir(group);
        if self.v2() {
            Some(Duration::from_micros(field(&read(&directory.join("cpu.stat"))?, "usage_usec")?))
        } else {
            Some(Duration::from_nanos(number(&read(&directory.join("cpuacct.usage"))?)?))
        }
    }

    /// Cores the group may use, if it is limited.
    pub fn cpu_quota(&self, group: &Membership) -> Option<f64> {
        if self.v2() {
            return cpu_max(&read(&self.cpu_dir(group).join("cpu.max"))?);
        }
        let directory = ["cpu", "cpu,cpuacct"].iter().map(|name| self.root.join(name)).find(|dir| dir.is_dir())?;
        let directory = directory.join(&group.cpu);
        let quota = read(&directory.join("cpu.cfs_quota_us"))?.trim().parse::<i64>().ok().filter(|&quota| quota > 0)?;
        let period = number(&read(&directory.join("cpu.cfs_period_us"))?).filter(|&period| period > 0)?;
        Some(quota as f64 / period as f64)
    }

    /// Memory the group uses, without the page cache that the kernel would give up first.
    pub fn memory_used(&self, group: &Membership) -> Option<u64> {
        let directory = self.memory_dir(group);
        let (usage, inactive) = if self.v2() {
            ("memory.current", "inactive_file")
        } else {
            ("memory.usage_in_bytes", "total_inactive_file")
        };
        let usage = number(&read(&directory.join(usage))?)?;
        let reclaimable = read(&directory.join("memory.stat")).and_then(|stat| field(&stat, inactive)).unwrap_or(0);
        Some(usage.saturating_sub(reclaimable))
    }

    /// The group's memory limit, if it has one. "No limit" is a huge number on version 1.
    pub fn memory_limit(&self, group: &Membership) -> Option<u64> {
        let file = if self.v2() { "memory.max" } else { "memory.limit_in_bytes" };
        number(&read(&self.memory_dir(group).join(file))?).filter(|&limit| limit < 1 << 60)
    }

    /// The group's own pressure file, where version 2 has one.
    pub fn pressure_file(&self, group: &Membership, resource: &str) -> Option<PathBuf> {
        let path = self.root.join(&group.unified).join(format!("{resource}.pressure"));
        (self.v2() && path.exists()).then_some(path)
    }

    /// Threads in the group and below it.
    pub fn threads(&self, group: &Membership) -> Vec<u32> {
        let file = if self.v2() { "cgroup.threads" } else { "tasks" };
        collect_ids(&self.cpu_dir(group), file)
    }

    /// How many processes are in the group and below it; `None` where they cannot be seen.
    pub fn processes(&self, group: &Membership) -> Option<u32> {
        u32::try_from(collect_ids(&self.cpu_dir(group), "cgroup.procs").len()).ok().filter(|&count| count > 0)
    }

    /// Memory that the group's processes would leave behind nowhere else: anonymous and shared
    /// pages, summed from `/proc`. For hierarchies without a memory controller.
    pub fn resident_private(&self, group: &Membership) -> u64 {
        let page = rustix::param::page_size() as u64;
        let pages: u64 = collect_ids(&self.cpu_dir(group), "cgroup.procs")
            .into_iter()
            .filter_map(|pid| private_pages(&std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?))
            .sum();
        pages * page
    }
}

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(' ')?;
        if key == name { number(value) } else { None }
    })
}

fn cpu_max(text: &str) -> Option<f64> {
    let mut fields = text.split_whitespace();
    let quota: f64 = fields.next()?.parse().ok()?;
    let period: f64 = fields.next().map_or(Some(100_000.0), |period| period.parse().ok())?;
    (quota > 0.0 && period > 0.0).then_some(quota / period)
}

/// `statm`: total, resident, shared (file-backed), …
fn private_pages(statm: &str) -> Option<u64> {
    let mut fields = statm.split_whitespace().skip(1);
    let resident = number(fields.next()?)?;
    let shared = number(fields.next()?)?;
    Some(resident.saturating_sub(shared))
}

/// Ids listed in `file` of `directory` and everything below; 0 stands for processes this namespace cannot name.
fn collect_ids(directory: &Path, file: &str) -> Vec<u32> {
    let mut ids = HashSet::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        if let Some(text) = read(&directory.join(file)) {
            ids.extend(text.lines().filter_map(|line| line.trim().parse::<u32>().ok()).filter(|&id| id != 0));
        }
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        let below = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        pending.extend(below.map(|entry| entry.path()));
    }
    ids.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("tempdir");
        for (path, content) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
            std::fs::write(path, content).expect("write");
        }
        root
    }

    #[test]
    fn version_1() {
        let root = tree(&[
            ("cpuacct/cpuacct.usage", "1106116315\n"),
            ("cpuacct/tasks", "1\n0\n7\n"),
            ("cpuacct/docker/abc/tasks", "9\n"),
            ("cpuacct/docker/abc/cpuacct.usage", "5000\n"),
            ("cpu/cpu.cfs_quota_us", "50000\n"),
            ("cpu/cpu.cfs_period_us", "100000\n"),
            ("cpu/docker/abc/cpu.cfs_quota_us", "-1\n"),
            ("cpu/docker/abc/cpu.cfs_period_us", "100000\n"),
            ("memory/memory.usage_in_bytes", "300\n"),
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/memory.stat", "inactive_file 1\ntotal_inactive_file 100\n"),
        ]);
        let cgroups = Cgroups::at(root.path());
        let node = Membership::root();
        assert_eq!(cgroups.layout, Some(Layout::V1));
        assert_eq!(cgroups.cpu_usage(&node), Some(Duration::from_nanos(1_106_116_315)));
        assert_eq!(cgroups.cpu_quota(&node), Some(0.5));
        assert_eq!(cgroups.memory_used(&node), Some(200));
        assert_eq!(cgroups.memory_limit(&node), None);
        let mut threads = cgroups.threads(&node);
        threads.sort_unstable();
        assert_eq!(threads, [1, 7, 9]);

        let container = Membership::parse("3:cpuset:/\n2:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/\n");
        let container = container.expect("inside");
        assert_eq!(cgroups.cpu_usage(&container), Some(Duration::from_nanos(5000)));
        assert_eq!(cgroups.cpu_quota(&container), None);
        assert_eq!(cgroups.memory_used(&container), None);
    }

    #[test]
    fn version_2() {
        let root = tree(&[
            ("cgroup.controllers", "cpu memory\n"),
            ("cpu.stat", "usage_usec 928770\nuser_usec 386372\n"),
            ("cpu.max", "50000 100000\n"),
            ("cpu.pressure", ""),
            ("memory.current", "1000\n"),
            ("memory.max", "max\n"),
            ("memory.stat", "anon 1\ninactive_file 400\n"),
            ("docker/abc/cpu.stat", "usage_usec 7\n"),
            ("docker/abc/cpu.max", "max 100000\n"),
            ("docker/abc/memory.max", "4096\n"),
        ]);
        let cgroups = Cgroups::at(root.path());
        let node = Membership::root();
        assert_eq!(cgroups.layout, Some(Layout::V2));
        assert_eq!(cgroups.cpu_usage(&node), Some(Duration::from_micros(928_770)));
        assert_eq!(cgroups.cpu_quota(&node), Some(0.5));
        assert_eq!(cgroups.memory_used(&node), Some(600));
        assert_eq!(cgroups.memory_limit(&node), None);
        assert!(cgroups.pressure_file(&node, "cpu").is_some());
        assert!(cgroups.pressure_file(&node, "io").is_none());

        let container = Membership::parse("0::/docker/abc\n").expect("inside");
        assert_eq!(cgroups.cpu_usage(&container), Some(Duration::from_micros(7)));
        assert_eq!(cgroups.cpu_quota(&container), None);
        assert_eq!(cgroups.memory_limit(&container), Some(4096));
    }

    #[test]
    fn layouts() {
        let root = tree(&[("unified/cgroup.controllers", ""), ("memory/tasks", "")]);
        assert_eq!(Cgroups::at(root.path()).layout, Some(Layout::Hybrid));
        assert_eq!(Cgroups::at(&root.path().join("missing")).layout, None);
    }

    #[test]
    fn a_process_outside_of_the_namespace_has_no_membership() {
        assert_eq!(Membership::parse("0::/../../elsewhere\n"), None);
        assert!(Membership::parse("nonsense\n").is_none());
    }

    #[test]
    fn statm() {
        assert_eq!(private_pages("1000 300 100 1 0 200 0\n"), Some(200));
        assert_eq!(private_pages("1000"), None);
    }
}
