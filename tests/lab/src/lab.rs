//! A running lab: its nodes, its faults, its end.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::burn;
use crate::cgroup::{Layout, Subtree};
use crate::config::LabConfig;
use crate::daemon::{Daemon, Place};
use crate::images::{self, Image};
use crate::network::Network;
use crate::node::Node;
use crate::programs::{agent, dockerd};
use crate::state::{State, instance_directory};
use crate::wait::wait_until;

/// The cgroup of what runs beside the nodes; no node can have this name.
pub(crate) const OUTSIDE: &str = "_outside";
const ENDED: Duration = Duration::from_secs(30);

/// A lab that is up.
#[derive(Clone, Debug)]
pub struct Lab {
    pub(crate) directory: PathBuf,
    pub(crate) state: State,
    pub(crate) outside: Subtree,
    pub(crate) nodes: Vec<Node>,
}

/// Which log of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    Agent,
    Dockerd,
}

impl Lab {
    /// Builds the lab and returns when every node's Docker (and, unless left out, Fogshift) is ready. On failure
    /// nothing stays behind. `progress` gets a line whenever something worth telling has happened.
    pub fn up(config: LabConfig, progress: &mut dyn FnMut(&str)) -> Result<Lab> {
        crate::up::up(config, progress)
    }

    /// Finds a lab that is up.
    pub fn attach(instance: &str) -> Result<Lab> {
        let directory = instance_directory(None, instance)?;
        let state = State::load(&directory)?
            .with_context(|| format!("no lab called {instance:?} is up: start one with `fog-lab up`"))?;
        Ok(Lab::assemble(directory, state, &Layout::detect()?))
    }

    pub(crate) fn assemble(directory: PathBuf, state: State, layout: &Layout) -> Lab {
        let instance = Subtree::of_instance(layout, &state.instance);
        let nodes =
            state.nodes.iter().map(|node| Node::new(node, &state, &directory, instance.child(&node.name))).collect();
        Lab { outside: instance.child(OUTSIDE), directory, state, nodes }
    }

    pub fn instance(&self) -> &str {
        &self.state.instance
    }

    /// The folder with the lab's files and the orchestrator's data.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node of that name.
    ///
    /// # Panics
    /// When there is none: in a test that is a mistake in the test. See [`Lab::find_node`].
    #[track_caller]
    pub fn node(&self, name: &str) -> &Node {
        match self.find_node(name) {
            Ok(node) => node,
            Err(error) => panic!("{error}"),
        }
    }

    pub fn find_node(&self, name: &str) -> Result<&Node> {
        self.nodes.iter().find(|node| node.name() == name).with_context(|| {
            let names: Vec<&str> = self.nodes.iter().map(Node::name).collect();
            format!("the lab {} has no node {name:?}: its nodes are {}", self.instance(), names.join(", "))
        })
    }

    /// Loads an image into every node.
    pub fn load_image(&self, image: &Image) -> Result<()> {
        self.nodes.iter().try_for_each(|node| images::load(node, image))
    }

    /// Where the orchestrator answers, as seen from this machine.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.state.orchestrator_port)
    }

    /// This machine's address in the lab's network, where the orchestrator listens too.
    pub fn outside_address(&self) -> String {
        self.state.bridge_address()
    }

    /// The orchestrator's access token.
    pub fn token(&self) -> Result<String> {
        let path = self.directory.join("orchestrator/token");
        let token = fs::read_to_string(&path).with_context(|| {
            format!("cannot read the orchestrator's token in {}: has the orchestrator been started?", path.display())
        })?;
        Ok(token.trim().to_owned())
    }

    /// Unplugs a node's network cable.
    pub fn cut(&self, node: &str) -> Result<()> {
        self.set_port(node, false)
    }

    /// Plugs it in again.
    pub fn heal(&self, node: &str) -> Result<()> {
        self.set_port(node, true)
    }

    fn set_port(&self, node: &str, up: bool) -> Result<()> {
        let node = self.find_node(node)?;
        node.network.set_port(node.state.index, up)
    }

    /// Drops everything between two nodes, while both reach all others. The rules are in `a`.
    pub fn cut_between(&self, a: &str, b: &str) -> Result<()> {
        let (a, b) = (self.find_node(a)?, self.find_node(b)?);
        self.heal_between(a.name(), b.name())?;
        let (table, address) = (cut_table(b), b.address());
        // In prerouting and postrouting, so that traffic of a's containers is dropped too.
        let rules = format!(
            "table inet {table} {{
                chain from {{ type filter hook prerouting priority -300; ip saddr {address} drop; }}
                chain to {{ type filter hook postrouting priority 300; ip daddr {address} drop; }}
            }}"
        );
        a.run_with_input(&["nft", "-f", "-"], rules.as_bytes()).map(drop)
    }

    /// Undoes [`Lab::cut_between`] of the same two nodes in the same order.
    pub fn heal_between(&self, a: &str, b: &str) -> Result<()> {
        let (a, b) = (self.find_node(a)?, self.find_node(b)?);
        let table = cut_table(b);
        if a.run(&["nft", "list", "tables"])?.lines().any(|line| line == format!("table inet {table}")) {
            a.run(&["nft", "delete", "table", "inet", &table])?;
        }
        Ok(())
    }

    /// Keeps a node at `utilization` (0 to 1) of its CPU quota in the background, in place of an earlier burn.
    pub fn burn(&self, node: &str, utilization: f64) -> Result<()> {
        burn::check(utilization)?;
        let node = self.find_node(node)?;
        self.stop_burn(node.name())?;
        let program = self.directory.join("bin/fog-lab").display().to_string();
        let base = self.directory.parent().unwrap_or(Path::new("/")).display().to_string();
        let utilization = utilization.to_string();
        let base = format!("FOG_LAB_DIR={base}");
        self.burner(node).start(&[
            "env",
            &base,
            &program,
            "burn",
            node.name(),
            &utilization,
            "--instance",
            self.instance(),
        ])
    }

    /// Ends the background burn of a node, if there is one.
    pub fn stop_burn(&self, node: &str) -> Result<()> {
        self.burner(self.find_node(node)?).kill()
    }

    fn burner(&self, node: &Node) -> Daemon<'_> {
        Daemon {
            name: format!("burn-{}", node.name()),
            place: Place::Outside { directory: &self.directory, join: node.subtree.join_files() },
        }
    }

    /// Burns in the calling process, which thereby becomes a member of the node's cgroup for good.
    pub fn burn_here(&self, node: &str, utilization: f64, duration: Option<Duration>) -> Result<()> {
        let node = self.find_node(node)?;
        for file in node.subtree.join_files() {
            fs::write(&file, "0").with_context(|| format!("cannot join {}", file.display()))?;
        }
        burn::run(node, utilization, duration)
    }

    /// Where a log lies on this machine, readable also when the node has crashed.
    pub fn log_file(&self, node: &str, log: Log) -> Result<PathBuf> {
        let node = self.find_node(node)?;
        Ok(match log {
            Log::Agent => agent(node).log_file(),
            Log::Dockerd => dockerd(node).log_file(),
        })
    }

    pub fn orchestrator_log_file(&self) -> PathBuf {
        self.orchestrator().log_file()
    }

    /// Copies all logs to a folder, for a test that wants to keep them.
    pub fn save_logs(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let mut logs = vec![(self.orchestrator_log_file(), "orchestrator.log".to_owned())];
        for node in &self.nodes {
            logs.push((agent(node).log_file(), format!("{}-agent.log", node.name())));
            logs.push((dockerd(node).log_file(), format!("{}-dockerd.log", node.name())));
        }
        for (log, name) in logs {
            match fs::copy(&log, folder.join(name)) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot copy {}", log.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Ends the lab and removes all it left on the machine.
    pub fn down(&self) -> Result<()> {
        down(&self.directory, self.instance())
    }

    /// Ends whatever is there of an instance, also after a crash; finding nothing is fine.
    pub fn down_instance(instance: &str) -> Result<()> {
        down(&instance_directory(None, instance)?, instance)
    }
}

fn cut_table(peer: &Node) -> String {
    format!("fog_lab_cut_{}", peer.state.index)
}

pub(crate) fn down(directory: &Path, instance: &str) -> Result<()> {
    let subtree = Subtree::of_instance(&Layout::detect()?, instance);
    if subtree.exists() {
        subtree.kill_all(ENDED)?;
    }
    Network::delete_all(instance)?;
    subtree.remove()?;
    // A file system is released a moment after its last process.
    let mut last = String::new();
    let removed =
        wait_until(Duration::from_secs(10), "the lab's folder to be removable", || {
            match fs::remove_dir_all(directory) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    last = error.to_string();
                    Ok(None)
                }
                _ => Ok(Some(())),
            }
        });
    removed.with_context(|| format!("cannot remove {} ({last}): remove it by hand", directory.display()))
}

/// Ends the lab when dropped, also by a panic; for tests.
pub struct LabGuard {
    lab: Lab,
}

impl LabGuard {
    pub fn new(lab: Lab) -> LabGuard {
        LabGuard { lab }
    }
}

impl Deref for LabGuard {
    type Target = Lab;
    fn deref(&self) -> &Lab {
        &self.lab
    }
}

impl Drop for LabGuard {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(folder) = std::env::var_os("FOG_LAB_KEEP_LOGS")
            && let Err(error) = self.lab.save_logs(&Path::new(&folder).join(self.lab.instance()))
        {
            eprintln!("fog-lab: cannot keep the logs: {error:#}");
        }
        if let Err(error) = self.lab.down() {
            eprintln!("fog-lab: cannot end the lab {}: {error:#}", self.lab.instance());
        }
    }
}

/// Checks that the machine has what a lab needs.
pub(crate) fn check_machine(config: &LabConfig) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("a lab makes namespaces, mounts and cgroups, which only root may: run it with sudo");
    }
    let mut tools = vec![
        ("debootstrap", "debootstrap"),
        ("ip", "iproute2"),
        ("nsenter", "util-linux"),
        ("unshare", "util-linux"),
        ("setsid", "util-linux"),
        ("setpriv", "util-linux"),
    ];
    if config.nodes.iter().any(|node| node.link.rate.is_some()) {
        tools.push(("tc", "iproute2"));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |tool: &str| std::env::split_paths(&path).any(|folder| folder.join(OsStr::new(tool)).is_file());
    if let Some((tool, package)) = tools.into_iter().find(|(tool, _)| !is_there(tool)) {
        bail!("the program {tool} is missing: install it with `apt-get install {package}`");
    }
    if config.nodes.iter().any(|node| node.link.is_emulated()) && !Path::new("/dev/net/tun").exists() {
        bail!("/dev/net/tun is missing, which delay, jitter and loss of links need: load it with `modprobe tun`");
    }
    Ok(())
}
