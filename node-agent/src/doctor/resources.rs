//! Room and limits: pipes, memory and disk for images, the transfer port, the state directory.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use super::Check;
use super::fix::{PIPE_SIZE, PIPE_SIZE_FILE};
use super::kernel::effective_capabilities;
use crate::config::Config;
use crate::lock::Lock;
use crate::runtime::observe::Daemon;
use crate::sampler::Space;

const SYS_RESOURCE: u32 = 24;

/// fog-runc has no configuration: Docker starts it without any.
const RUN_DIR: &str = "/run/fogshift";
const MIB: u64 = 1 << 20;

/// All checks of this family.
pub(super) fn checks(config: &Config, daemon: Option<&Daemon>) -> Vec<Check> {
    let data = daemon.map(|daemon| daemon.data_dir.as_str()).filter(|dir| !dir.is_empty()).unwrap_or("/var/lib/docker");
    vec![
        pipe_size(),
        image_room(&config.run_dir),
        disk_room("Docker's disk", Path::new(data), 1024 * MIB),
        disk_room("state directory", &config.state_dir, 64 * MIB),
        port(config.transfer_listen, Lock::is_held(&config.state_dir)),
    ]
}

fn pipe_size() -> Check {
    const NAME: &str = "pipe size";
    let size = std::fs::read_to_string(PIPE_SIZE_FILE).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let unlimited = effective_capabilities(&status).is_some_and(|held| held & (1 << SYS_RESOURCE) != 0);
    match size {
        Some(size) if size >= PIPE_SIZE => Check::ok(NAME, format!("fs.pipe-max-size = {size}")),
        Some(size) if unlimited => {
            Check::ok(NAME, format!("fs.pipe-max-size = {size}, which CAP_SYS_RESOURCE overrules"))
        }
        Some(size) => Check::warn(
            NAME,
            format!("fs.pipe-max-size = {size}: CRIU's page server fails with \"page-pipe: splice: -1\""),
            format!("fog-agent doctor --fix (sets {PIPE_SIZE})"),
        ),
        None => Check::warn(NAME, "cannot be read", format!("sysctl fs.pipe-max-size={PIPE_SIZE}")),
    }
}

fn image_room(directory: &Path) -> Check {
    const NAME: &str = "image memory";
    /// `TMPFS_MAGIC` and `RAMFS_MAGIC`.
    const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];
    if directory != Path::new(RUN_DIR) {
        return Check::fail(
            NAME,
            format!("run_dir is {}, but fog-runc looks for the agent in {RUN_DIR}", directory.display()),
            "take run_dir out of the configuration",
        );
    }
    let existing = directory.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let in_memory = rustix::fs::statfs(existing).is_ok_and(|stat| IN_MEMORY.contains(&stat.f_type));
    let shown = directory.display();
    if !in_memory {
        return Check::fail(
            NAME,
            format!("{shown} is not in memory: the secrets in a memory image must not reach a disk"),
            format!("mount -t tmpfs -o mode=0700 tmpfs {shown}"),
        );
    }
    match Space::of(directory) {
        Some(space) if space.free_bytes < 256 * MIB => Check::warn(
            NAME,
            format!("{} free under {shown}: only small containers can pass", in_mib(space.free_bytes)),
            format!("mount -o remount,size=2G {}", existing.display()),
        ),
        Some(space) => Check::ok(NAME, format!("{} free under {shown} (tmpfs)", in_mib(space.free_bytes))),
        None => Check::warn(NAME, format!("{shown} cannot be examined"), "check that it is a directory on a tmpfs"),
    }
}

fn disk_room(name: &'static str, directory: &Path, enough: u64) -> Check {
    let shown = directory.display();
    match Space::of(directory) {
        Some(space) if space.free_bytes >= enough => {
            Check::ok(name, format!("{} free under {shown}", in_mib(space.free_bytes)))
        }
        Some(space) => Check::warn(
            name,
            format!("only {} free under {shown}", in_mib(space.free_bytes)),
            "make room (docker system df shows what Docker keeps)",
        ),
        None => Check::warn(name, format!("{shown} cannot be examined"), "check that the path is right"),
    }
}

fn in_mib(bytes: u64) -> String {
    if bytes >= 10 * 1024 * MIB { format!("{} GiB", bytes / (1024 * MIB)) } else { format!("{} MiB", bytes / MIB) }
}

fn port(listen: SocketAddr, agent_runs: bool) -> Check {
    const NAME: &str = "transfer port";
    if agent_runs {
        return Check::ok(NAME, format!("{listen}, fog-agent runs"));
    }
    match TcpListener::bind(listen) {
        Ok(_) => Check::ok(NAME, format!("{listen} is free (fog-agent does not run)")),
        Err(error) => Check::fail(
            NAME,
            format!("{listen}: {error}"),
            "end the program that has it (ss -ltnp), or set another transfer_listen",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn a_port_in_use_is_fine_only_for_the_agent() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = taken.local_addr().expect("address");
        assert_eq!(port(address, false).status, Status::Fail);
        assert_eq!(port(address, true).status, Status::Ok);
        drop(taken);
        assert_eq!(port(address, false).status, Status::Ok);
    }

    #[test]
    fn sizes() {
        assert_eq!(in_mib(300 * MIB), "300 MiB");
        assert_eq!(in_mib(11 * 1024 * MIB), "11 GiB");
    }

    #[test]
    fn too_little_room_is_said() {
        assert_eq!(disk_room("disk", Path::new("/"), u64::MAX).status, Status::Warn);
        assert_eq!(disk_room("disk", Path::new("/no/such"), 0).status, Status::Ok);
    }
}
