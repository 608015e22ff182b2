//! Which Docker daemon runs: to know later whether another one has taken its place.

use std::path::Path;

/// The running daemon: this boot of the machine, its process and when that started. `None`: there is none that could be found.
///
/// Docker's PID file says which process it is (`daemon.json` can move it); where it is missing, the first `dockerd` that was
/// started in this PID namespace.
pub fn daemon() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let listed = ["/run/docker.pid", "/var/run/docker.pid"].into_iter().find_map(|file| {
        let pid = std::fs::read_to_string(file).ok()?.trim().parse().ok()?;
        started(pid).map(|started| (started, pid))
    });
    let (started, pid) = listed.or_else(|| {
        let pids =
            std::fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter_map(|pid| started(pid).map(|started| (started, pid))).min()
    })?;
    Some(format!("{} {pid} {started}", boot.trim()))
}

/// When a process started, in clock ticks since boot, if it is a Docker daemon.
fn started(pid: u32) -> Option<u64> {
    let folder = Path::new("/proc").join(pid.to_string());
    let name = std::fs::read_to_string(folder.join("comm")).ok()?;
    let stat = std::fs::read_to_string(folder.join("stat")).ok()?;
    let fields = stat.get(stat.rfind(')')? + 1..)?;
    (name.trim() == "dockerd").then(|| fields.split_whitespace().nth(19)?.parse().ok()).flatten()
}
