//! What the tasks of a container hold open that CRIU cannot dump, seen before anything is frozen for it.

use std::collections::BTreeSet;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use fog_api::preflight::Finding;
use rustix::fs::{major, minor};
use rustix::net::AddressFamily;
use rustix::net::sockopt::{socket_domain, socket_protocol};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::tasks;
use crate::tools::Version;

/// The first CRIU that can dump internet sockets on [`NEW_KERNEL`].
const NEW_CRIU: [u32; 3] = [4, 2, 0];

/// From this kernel on `SO_PASSCRED` and `SO_PASSSEC` are refused on sockets that are neither Unix nor netlink, which an
/// older CRIU takes for a failure.
const NEW_KERNEL: [u32; 3] = [6, 16, 0];

/// Kinds of files without a name that CRIU does not know.
const KINDS: &[(&str, &str)] = &[
    ("anon_inode:[io_uring]", "uses io_uring"),
    ("anon_inode:[perf_event]", "measures performance counters (perf)"),
    ("anon_inode:bpf", "holds a BPF object"),
    ("anon_inode:kvm", "runs a virtual machine (KVM)"),
    ("anon_inode:[userfaultfd]", "handles its own page faults (userfaultfd)"),
    ("anon_inode:[landlock-ruleset]", "holds a Landlock rule set"),
    ("anon_inode:seccomp notify", "supervises another's system calls (seccomp)"),
];

/// Sockets of other families are refused by their names, if these are known.
const FAMILIES: &[(u16, &str)] = &[
    (29, "CAN"),
    (30, "TIPC"),
    (31, "Bluetooth"),
    (38, "kernel cryptography (AF_ALG)"),
    (40, "virtual machine (AF_VSOCK)"),
    (43, "SMC"),
    (44, "XDP"),
];

/// Protocols on internet sockets that CRIU does not know.
const PROTOCOLS: &[(u32, &str)] = &[(132, "SCTP"), (262, "MPTCP")];

/// Devices that every container has: null, zero, full, random, urandom, tty, ptmx.
const DEVICES: &[(u32, u32)] = &[(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2)];

/// What stands in the way. Blocking; what cannot be looked at is left for CRIU to say.
pub(super) fn findings(init: i32, criu: Option<&Version>) -> Vec<Finding> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let new_kernel = Version::parse(&release).is_some_and(|kernel| kernel.at_least(NEW_KERNEL));
    let old_criu = criu.filter(|criu| new_kernel && !criu.at_least(NEW_CRIU));
    let reads_limits = std::fs::read_to_string("/proc/self/status").is_ok_and(|status| has_sys_resource(&status));
    let mut found = BTreeSet::new();
    for task in tasks::of_container(init) {
        let name = std::fs::read_to_string(format!("/proc/{}/comm", task.pid)).unwrap_or_default();
        let who = format!("{} (process {} in the container)", name.trim(), task.inner_pid);
        let status = std::fs::read_to_string(format!("/proc/{}/status", task.pid)).unwrap_or_default();
        if !reads_limits && !is_roots(&status) {
            let message = format!(
                "{who} is not root's, and CRIU may read such a process's limits only with CAP_SYS_RESOURCE, which root \
                 lacks on this node; give the node that capability."
            );
            found.insert(("privileges", message));
        }
        let folder = format!("/proc/{}/fd", task.pid);
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(link) = std::fs::read_link(entry.path()) else { continue };
            let link = link.to_string_lossy();
            let number = entry.file_name().to_str().and_then(|number| number.parse().ok());
            if let Some((_, what)) = KINDS.iter().find(|(kind, _)| link.starts_with(kind)) {
                found.insert(("files", format!("{who} {what}, which CRIU cannot dump.")));
            } else if link.starts_with("socket:") {
                let problem = number.and_then(|number| socket(task.pid, number, old_criu, &release));
                found.extend(problem.map(|problem| ("sockets", format!("{who} has {problem}"))));
            } else if link.starts_with("/dev/") {
                found.extend(
                    device(&entry.path())
                        .map(|()| ("devices", format!("{who} has the device {link} open, which CRIU cannot dump."))),
                );
            }
        }
    }
    found.into_iter().map(|(check, message)| Finding::blocker(check, message)).collect()
}

/// `CAP_SYS_RESOURCE`, in a process's status.
fn has_sys_resource(status: &str) -> bool {
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    held.and_then(|held| u64::from_str_radix(held.trim(), 16).ok()).is_some_and(|held| held & 1 << 24 != 0)
}

/// Real, effective and saved ids are all root's, as the kernel wants it without that capability.
fn is_roots(status: &str) -> bool {
    let ids = status.lines().filter_map(|line| line.strip_prefix("Uid:").or_else(|| line.strip_prefix("Gid:")));
    ids.flat_map(|ids| ids.split_whitespace().take(3)).all(|id| id == "0")
}

/// The rest of a sentence, if the socket cannot be dumped.
fn socket(pid: i32, number: i32, old_criu: Option<&Version>, release: &str) -> Option<String> {
    let process = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    let socket = pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).ok()?;
    let family = socket_domain(&socket).ok()?;
    let internet = [AddressFamily::INET, AddressFamily::INET6].contains(&family);
    if internet {
        let protocol = socket_protocol(&socket).ok().flatten().map_or(0, |protocol| protocol.as_raw().get());
        if let Some((_, name)) = PROTOCOLS.iter().find(|(known, _)| *known == protocol) {
            return Some(format!("an {name} socket, which CRIU cannot dump."));
        }
        return old_criu.map(|criu| {
            format!(
                "a network socket, which CRIU {criu} cannot dump on kernel {release}: install CRIU 4.2 or newer (Debian \
                 testing has it)."
            )
        });
    }
    let known = [AddressFamily::UNIX, AddressFamily::NETLINK, AddressFamily::PACKET];
    if known.contains(&family) {
        return None;
    }
    let number = family.as_raw();
    let name = FAMILIES.iter().find(|(known, _)| *known == number).map(|(_, name)| (*name).to_owned());
    Some(format!("a {} socket, which CRIU cannot dump.", name.unwrap_or_else(|| format!("kind {number}"))))
}

/// `Some` if it is a device that is not every container's.
fn device(path: &Path) -> Option<()> {
    let metadata = std::fs::metadata(path).ok()?;
    let kind = metadata.file_type();
    if !kind.is_char_device() && !kind.is_block_device() {
        return None;
    }
    let number = (major(metadata.rdev()), minor(metadata.rdev()));
    // 136 is the first of the terminals: those of the container's own.
    (!(kind.is_char_device() && (DEVICES.contains(&number) || number.0 == 136))).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_others_take_a_capability() {
        assert!(has_sys_resource("CapEff:\t000001ffffffffff\n") && !has_sys_resource("CapEff:\t00000000feffffff\n"));
        assert!(is_roots("Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n"));
        assert!(!is_roots("Uid:\t0\t0\t0\t0\nGid:\t0\t44\t0\t0\n"));
    }
}
