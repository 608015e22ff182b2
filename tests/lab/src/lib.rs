//! fog-lab: several real hosts on one machine.
//!
//! Each host ("node") has its own Debian root file system, network namespace, mount, PID, UTS, IPC and cgroup
//! namespaces, its own cgroup subtree with CPU quota and memory limit, and runs its own dockerd. So a test, a demo or
//! a benchmark meets what it would meet on real machines: real Docker, real CRIU, real TCP, and every fault can be made.
//!
//! ```no_run
//! use fog_lab::{Lab, LabConfig, LabGuard, Suite};
//!
//! # fn main() -> anyhow::Result<()> {
//! let config = LabConfig::new("example", &["A", "B"])
//!     .programs(false)
//!     .node("A", |node| node.cpus = Some(0.5))
//!     .node("B", |node| node.suite = Suite::Forky);
//! let lab = LabGuard::new(Lab::up(config, &mut |line| eprintln!("{line}"))?);
//! lab.node("A").run(&["docker", "run", "--detach", "--name", "looper", "fog/busybox:1"])?;
//! lab.cut("B")?; // pulls B's network cable
//! # Ok(())
//! # } // the guard ends the lab, also when a test panics
//! ```

mod burn;
mod cgroup;
mod command;
mod config;
mod daemon;
mod host;
mod host_init;
pub mod images;
mod lab;
mod link_emulator;
mod network;
mod node;
mod programs;
mod rootfs;
mod state;
mod tap;
mod up;
mod wait;

pub use config::{
    CgroupVersion, LabConfig, Link, NodeConfig, Suite, parse_cpus, parse_duration, parse_fraction, parse_labels,
    parse_node_prefix, parse_per_node, parse_rate, parse_size,
};
pub use lab::{Lab, LabGuard, Log};
pub use node::Node;
pub use rootfs::tree;
pub use state::instances;
pub use wait::wait_until;

/// The parts that the fog-lab program plays inside a lab; not for other users.
#[doc(hidden)]
pub mod parts {
    pub use crate::host_init::run as host_init;
    pub use crate::link_emulator::run as link_emulator;
}
