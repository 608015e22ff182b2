//! Cgroups: a layout that Docker and CRIU can freeze containers in.

use super::Check;
use crate::sampler::{Cgroups, Layout};

/// The check.
pub(super) fn check() -> Check {
    const NAME: &str = "cgroup layout";
    match Cgroups::detect().layout {
        Some(Layout::V2) => Check::ok(NAME, "v2"),
        Some(Layout::Hybrid) => Check::ok(NAME, "hybrid (Docker uses v1)"),
        Some(Layout::V1) if std::path::Path::new("/sys/fs/cgroup/freezer").is_dir() => Check::ok(NAME, "v1"),
        Some(Layout::V1) => {
            Check::fail(NAME, "v1 without the freezer: containers cannot be paused", "mount the freezer controller")
        }
        None => Check::fail(NAME, "nothing is mounted on /sys/fs/cgroup", "mount -t cgroup2 cgroup2 /sys/fs/cgroup"),
    }
}
