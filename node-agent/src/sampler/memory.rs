//! Memory: what the node uses of what it may use.

use procfs::{Current, Meminfo};

use super::cgroup::{Cgroups, Membership};
use crate::config::Scope;

/// Used and usable memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Memory {
    /// In use, without what the kernel gives up first.
    pub(super) used_bytes: u64,
    /// What the node may use.
    pub(super) limit_bytes: u64,
}

impl Memory {
    /// Used as a fraction of the limit.
    pub(super) fn fraction(self) -> f64 {
        if self.limit_bytes == 0 { 0.0 } else { (self.used_bytes as f64 / self.limit_bytes as f64).min(1.0) }
    }
}

/// Looks at the node's memory.
pub(super) fn read(scope: Scope, configured: Option<u64>, cgroups: &Cgroups) -> Memory {
    let machine = Meminfo::current().map_or(Memory { used_bytes: 0, limit_bytes: 0 }, |info| of_machine(&info));
    let own = Membership::root();
    let (used, limit) = match scope {
        Scope::Host => (machine.used_bytes, None),
        Scope::Cgroup => {
            let used = cgroups.memory_used(&own).unwrap_or_else(|| cgroups.resident_private(&own));
            (used, cgroups.memory_limit(&own))
        }
    };
    let limit = configured.or(limit).unwrap_or(machine.limit_bytes).min(machine.limit_bytes);
    Memory { used_bytes: used, limit_bytes: limit }
}

fn of_machine(info: &Meminfo) -> Memory {
    let available = info.mem_available.unwrap_or(info.mem_free + info.buffers + info.cached);
    Memory { used_bytes: info.mem_total.saturating_sub(available), limit_bytes: info.mem_total }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_stay_within_bounds() {
        assert_eq!(Memory { used_bytes: 1, limit_bytes: 4 }.fraction(), 0.25);
        assert_eq!(Memory { used_bytes: 9, limit_bytes: 4 }.fraction(), 1.0);
        assert_eq!(Memory { used_bytes: 9, limit_bytes: 0 }.fraction(), 0.0);
    }

    #[test]
    fn this_machine_has_memory() {
        let memory = read(Scope::Host, None, &Cgroups::detect());
        assert!(memory.used_bytes > 0 && memory.used_bytes < memory.limit_bytes);
        assert_eq!(read(Scope::Host, Some(1), &Cgroups::detect()).limit_bytes, 1);
    }
}
