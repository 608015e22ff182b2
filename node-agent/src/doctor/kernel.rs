//! The kernel: its version, and the features that checkpointing and sampling build on.

use std::path::Path;

use super::Check;
use crate::tools::{Version, ask};

const PRE_COPY: &str = "copying memory while the container runs";

/// All checks of this family.
pub(super) async fn checks() -> Vec<Check> {
    let mut checks = vec![privileges(), version()];
    checks.push(feature(
        "userfaultfd",
        Path::new("/proc/sys/vm/unprivileged_userfaultfd").exists(),
        "available",
        "missing: post-copy migration is not possible",
        "use a kernel built with CONFIG_USERFAULTFD",
    ));
    checks.push(feature(
        "time namespaces",
        Path::new("/proc/self/ns/time").exists(),
        "available",
        "missing: a moved container sees its monotonic clock jump",
        "use a kernel built with CONFIG_TIME_NS (5.6 or newer)",
    ));
    checks.push(feature(
        "pressure",
        std::fs::read("/proc/pressure/cpu").is_ok(),
        "available",
        "missing: overload is recognised by utilization alone",
        "use a kernel built with CONFIG_PSI, and boot it with psi=1",
    ));
    checks.push(nftables().await);
    checks.push(dirty_tracking().await);
    checks
}

fn feature(name: &'static str, there: bool, found: &str, missing: &str, fix: &str) -> Check {
    if there { Check::ok(name, found) } else { Check::warn(name, missing, fix) }
}

fn privileges() -> Check {
    const NEEDED: [(&str, u32); 4] =
        [("NET_ADMIN", 12), ("SYS_PTRACE", 19), ("SYS_ADMIN", 21), ("CHECKPOINT_RESTORE", 40)];
    let fix = "run fog-agent as root of the machine, not in a container that drops capabilities";
    if !rustix::process::geteuid().is_root() {
        return Check::fail("privileges", "not root", fix);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let Some(held) = effective_capabilities(&status) else {
        return Check::warn("privileges", "root, but its capabilities cannot be read", fix);
    };
    // SYS_ADMIN stands in for CHECKPOINT_RESTORE on kernels that do not know the latter.
    let missing: Vec<&str> =
        NEEDED.iter().filter(|(_, bit)| *bit != 40 && held & (1 << bit) == 0).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        Check::ok("privileges", "root")
    } else {
        Check::fail("privileges", format!("root without CAP_{}", missing.join(", CAP_")), fix)
    }
}

pub(super) fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn version() -> Check {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    judge(&release)
}

fn judge(release: &str) -> Check {
    let fix = "use kernel 5.10 or newer";
    match Version::parse(release) {
        Some(version) if version.at_least([5, 10, 0]) => Check::ok("kernel", release),
        Some(version) if version.at_least([4, 18, 0]) => {
            Check::warn("kernel", format!("{release}: older than anything Fogshift was tried on"), fix)
        }
        Some(_) => Check::fail("kernel", format!("{release} is too old for CRIU's checkpoints"), fix),
        None => Check::warn("kernel", format!("{release}: not a version this program understands"), fix),
    }
}

/// CRIU holds back packets of a frozen container with nftables, in its own process; with iptables
/// it has to start programs, which costs downtime.
async fn nftables() -> Check {
    match ask("criu", &["check", "--feature", "network_lock_nftables"]).await {
        Some(said) if said.success => Check::ok("nftables", "usable by CRIU"),
        Some(_) => Check::warn(
            "nftables",
            "not usable by CRIU: locking the network of a container takes longer",
            "load the module nf_tables (modprobe nf_tables), and use a CRIU built with nftables",
        ),
        None => Check::warn("nftables", "unknown without CRIU", "apt-get install criu"),
    }
}

/// Two ways to learn which pages a running container has written: the old soft-dirty bit, which
/// CRIU uses, and asynchronous write protection since 6.7.
async fn dirty_tracking() -> Check {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let write_protection = Version::parse(&release).is_some_and(|version| version.at_least([6, 7, 0]));
    let soft_dirty = ask("criu", &["check", "--feature", "mem_dirty_track"]).await.is_some_and(|said| said.success);
    match (soft_dirty, write_protection) {
        (true, true) => Check::ok("memory tracking", "soft-dirty and write protection"),
        (true, false) => Check::ok("memory tracking", "soft-dirty"),
        (false, true) => Check::ok("memory tracking", "write protection (no soft-dirty in this kernel)"),
        (false, false) => Check::warn(
            "memory tracking",
            format!("neither soft-dirty nor write protection: no {PRE_COPY}"),
            "use kernel 6.7 or newer",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn kernels() {
        assert_eq!(judge("6.18.44-fc-v657").status, Status::Ok);
        assert_eq!(judge("5.10.0-28-amd64").status, Status::Ok);
        assert_eq!(judge("5.4.0").status, Status::Warn);
        assert_eq!(judge("3.10.0-1160.el7").status, Status::Fail);
        assert_eq!(judge("mainline").status, Status::Warn);
    }

    #[test]
    fn capabilities() {
        assert_eq!(effective_capabilities("Name:\tx\nCapEff:\t000001ffffffffff\n"), Some(0x1ff_ffff_ffff));
        assert_eq!(effective_capabilities("Name:\tx\n"), None);
    }
}
