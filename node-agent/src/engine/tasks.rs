//! The tasks of a container, found by their PID namespace: that holds whatever the cgroup layout.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::journal::ProcessIdentity;

/// One process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Task {
    /// Its id on the host.
    pub(super) pid: i32,
    /// Its parent's id on the host.
    parent: i32,
    /// Its id inside the container.
    pub(super) inner_pid: i32,
    /// Its threads' states, as in `/proc/PID/stat`.
    pub(super) states: Vec<char>,
}

impl Task {
    /// No thread of it runs or could run: stopped, or dead.
    pub(super) fn is_still(&self) -> bool {
        self.states.iter().all(|state| matches!(state, 'T' | 'Z' | 'X'))
    }

    /// A thread of it is stopped.
    pub(super) fn is_stopped(&self) -> bool {
        self.states.contains(&'T')
    }
}

/// The fields of `/proc/PID/stat` that matter here.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    parent: i32,
    group: i32,
    started: u64,
}

impl Stat {
    /// The name in parentheses may contain anything, so the fields are counted from the last parenthesis.
    fn parse(text: &str) -> Option<Stat> {
        let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_whitespace().collect();
        Some(Stat {
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }

    fn of(pid: i32) -> Option<Stat> {
        Stat::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }
}

/// All processes in the PID namespace of `init`, children before their parents. Empty when `init` is gone.
pub(super) fn of_container(init: i32) -> Vec<Task> {
    let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let Some(wanted) = namespace(init) else { return Vec::new() };
    // Never our own: a container without a PID namespace of its own is refused long before this.
    if namespace(rustix::process::getpid().as_raw_nonzero().get()) == Some(wanted.clone()) {
        return Vec::new();
    }
    let pids = numbers(PathBuf::from("/proc")).into_iter().filter(|pid| namespace(*pid).as_ref() == Some(&wanted));
    let mut tasks: Vec<Task> = pids.filter_map(read).collect();
    let parents: HashMap<i32, i32> = tasks.iter().map(|task| (task.pid, task.parent)).collect();
    let depth = |task: &Task| {
        std::iter::successors(Some(task.pid), |pid| parents.get(pid).copied()).take(parents.len() + 1).count()
    };
    tasks.sort_by_cached_key(|task| std::cmp::Reverse((depth(task), task.pid)));
    tasks
}

fn read(pid: i32) -> Option<Task> {
    let states = numbers(PathBuf::from(format!("/proc/{pid}/task"))).into_iter().filter_map(|thread| {
        Some(Stat::parse(&std::fs::read_to_string(format!("/proc/{pid}/task/{thread}/stat")).ok()?)?.state)
    });
    let states = states.collect();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let inner = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    let inner_pid = inner.split_whitespace().next_back()?.parse().ok()?;
    Some(Task { pid, parent: Stat::of(pid)?.parent, inner_pid, states })
}

fn numbers(folder: PathBuf) -> Vec<i32> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Sends a signal. A process that is gone already is no error.
pub(super) fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid).filter(|pid| !pid.is_init()) {
        kill_process(pid, signal).ok();
    }
}

/// Makes sure that no task of a frozen or held container ever runs another instruction: the signal is pending
/// before anything can thaw or continue it.
pub(super) fn kill_in_place(init: i32) {
    for task in of_container(init) {
        signal(task.pid, Signal::KILL);
    }
}

/// The tasks of a frozen container that were stopped before, by their ids inside the container.
pub(super) fn stopped(init: i32) -> Vec<i32> {
    of_container(init).into_iter().filter(Task::is_stopped).map(|task| task.inner_pid).collect()
}

/// Makes sure that a thaw which is not ours (`docker stop` begins with one) lets no task of a frozen container run: the stop
/// signal is pending before, and goes with SIGCONT.
pub(super) fn hold(init: i32) {
    for task in of_container(init).iter().filter(|task| !task.is_stopped()) {
        signal(task.pid, Signal::STOP);
    }
}

/// Resident memory of all tasks; what they share counts for each.
pub(super) fn resident_bytes(init: i32) -> u64 {
    let page = rustix::param::page_size() as u64;
    let pages = of_container(init).into_iter().filter_map(|task| {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", task.pid)).ok()?;
        statm.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    pages.sum::<u64>() * page
}

/// Whether a task is stopped under the freezer of cgroup v1: frozen there, it never answers CRIU's attempt to trace it.
pub(super) fn has_stuck_tasks(init: i32) -> bool {
    let unified = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    !unified && of_container(init).iter().any(Task::is_stopped)
}

/// The cgroups of a process, one a line.
pub(super) fn cgroup(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default()
}

/// Identifies a process that runs now.
pub(super) fn identify(pid: i32) -> Option<ProcessIdentity> {
    Some(ProcessIdentity { pid, started: Stat::of(pid)?.started })
}

/// Whether anything of the process's group still runs. Only processes that started no earlier than it count.
pub(super) fn group_is_alive(leader: ProcessIdentity) -> bool {
    numbers(PathBuf::from("/proc"))
        .into_iter()
        .filter_map(Stat::of)
        .any(|stat| stat.group == leader.pid && stat.started >= leader.started && !matches!(stat.state, 'Z' | 'X'))
}

/// Asks again and again until it is so, at most for `patience`. Blocking.
pub(super) fn wait_until(patience: Duration, mut so: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        if so() {
            return true;
        }
        if began.elapsed() > patience {
            return false;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_contain_anything() {
        let text = "12 (a) R 7 (b)) T 1 12 12 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 5555 0 0";
        assert_eq!(Stat::parse(text), Some(Stat { state: 'T', parent: 1, group: 12, started: 5555 }));
        assert_eq!(Stat::parse("12 (a"), None);
    }

    #[test]
    fn stillness() {
        let task = |states: &str| Task { pid: 2, parent: 1, inner_pid: 1, states: states.chars().collect() };
        assert!(task("TT").is_still() && task("TZ").is_still() && task("").is_still());
        assert!(!task("TS").is_still());
        assert!(task("TZ").is_stopped() && !task("Z").is_stopped());
    }

    #[test]
    fn our_own_namespace_is_no_container() {
        assert!(of_container(rustix::process::getpid().as_raw_nonzero().get()).is_empty());
    }

    #[test]
    fn this_process_is_alive() {
        let me = identify(rustix::process::getpid().as_raw_nonzero().get()).expect("a stat");
        assert!(me.started > 0);
        assert!(!group_is_alive(ProcessIdentity { pid: i32::MAX, started: 0 }));
    }
}
