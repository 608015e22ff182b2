//! Run queue: tasks that run or wait for a CPU.

use procfs::KernelStats;

use super::cgroup::{Cgroups, Membership};
use crate::config::Scope;

/// Tasks in the run queue at this moment, without the one that looks.
pub(super) fn length(scope: Scope, cgroups: &Cgroups, stat: Option<&KernelStats>) -> f64 {
    let tasks = match (scope, stat.and_then(|stat| stat.procs_running)) {
        (Scope::Host, Some(running)) => u64::from(running),
        _ => running_of(&cgroups.threads(&Membership::root())),
    };
    tasks.saturating_sub(1) as f64
}

fn running_of(threads: &[u32]) -> u64 {
    let running = threads.iter().filter(|thread| {
        std::fs::read_to_string(format!("/proc/{thread}/stat")).is_ok_and(|stat| state(&stat) == Some('R'))
    });
    running.count() as u64
}

/// The state letter stands behind the command, which is in parentheses and may hold anything.
fn state(stat: &str) -> Option<char> {
    stat.rsplit_once(") ")?.1.chars().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_may_look_like_the_rest() {
        assert_eq!(state("12 (a) S (b) R 1 2 3"), Some('R'));
        assert_eq!(state("12 (sleep) S 1 2 3"), Some('S'));
        assert_eq!(state(""), None);
    }

    #[test]
    fn this_thread_runs() {
        let own = u32::try_from(rustix::thread::gettid().as_raw_nonzero().get()).expect("positive");
        assert_eq!(running_of(&[own]), 1);
    }
}
