//! A running node as its users see it: run commands in it, read its files, ask for its address.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, ensure};

use crate::cgroup::Subtree;
use crate::command::succeed;
use crate::config::{CgroupVersion, Suite};
use crate::network::Network;
use crate::state::{NodeState, ProcessId, State};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Joins the cgroups named before `--`, then becomes the command after it.
///
/// A shell does this so that the caller stays in its own cgroups, and the command is a member from its first moment.
const JOIN: &str = r#"while [ "$1" != -- ]; do echo 0 > "$1" || exit 125; shift; done; shift; exec "$@""#;

/// One host of a lab.
#[derive(Clone, Debug)]
pub struct Node {
    pub(crate) state: NodeState,
    pub(crate) directory: PathBuf,
    pub(crate) subtree: Subtree,
    pub(crate) network: Network,
    address: String,
}

/// A command that first joins cgroups; `program` and `arguments` follow.
pub(crate) fn joining(join: &[PathBuf]) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", JOIN, "fog-lab"]).args(join).arg("--");
    command
}

impl Node {
    pub(crate) fn new(state: &NodeState, lab: &State, lab_directory: &Path, subtree: Subtree) -> Node {
        Node {
            state: state.clone(),
            directory: lab_directory.join("hosts").join(&state.name),
            subtree,
            network: Network::new(&lab.instance, lab.subnet),
            address: lab.address(state.index),
        }
    }

    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// The node's IPv4 address.
    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn suite(&self) -> Suite {
        self.state.suite
    }

    pub fn cgroup(&self) -> CgroupVersion {
        self.state.cgroup
    }

    /// The Debian tree below the node's own changes, e.g. to take an image's programs from.
    pub fn rootfs(&self) -> &Path {
        &self.state.rootfs
    }

    /// The node's CPU quota in CPUs, if it has one.
    pub fn cpus(&self) -> Option<f64> {
        self.state.cpus
    }

    /// Whether the node's first process runs.
    pub fn is_up(&self) -> bool {
        self.state.init.is_some_and(|init| init.is_alive(Path::new("/proc")))
    }

    fn init(&self) -> Result<ProcessId> {
        let running = self.state.init.filter(|init| init.is_alive(Path::new("/proc")));
        running.with_context(|| {
            format!("node {} is not running: end the lab with `fog-lab down`, then start it again", self.name())
        })
    }

    /// Where a file of the node is found from outside, e.g. `/run/docker.sock`.
    pub fn path(&self, inside: &str) -> Result<PathBuf> {
        let root = format!("/proc/{}/root", self.init()?.pid);
        Ok(Path::new(&root).join(inside.trim_start_matches('/')))
    }

    /// A command prepared to run inside the node: with its cgroups, namespaces, PATH and HOME. It dies with its caller's
    /// handle: whoever kills the returned command's process kills the command inside.
    pub fn command<S: AsRef<OsStr>>(&self, command: &[S]) -> Result<Command> {
        ensure!(!command.is_empty(), "no command given: write fog-lab exec {} -- COMMAND…", self.name());
        let init = self.init()?.pid.to_string();
        let mut entering = joining(&self.subtree.join_files());
        entering
            .args(["nsenter", "--target", &init, "--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup", "--time"]);
        entering.args(["setpriv", "--pdeathsig", "KILL", "--"]).args(command);
        clean_environment(&mut entering);
        Ok(entering)
    }

    /// Runs a command to its end, whatever its exit status.
    pub fn exec<S: AsRef<OsStr>>(&self, command: &[S]) -> Result<Output> {
        self.command(command)?.stdin(Stdio::null()).output().context("cannot run /bin/sh")
    }

    /// Runs a command and returns its standard output without the final line end; a non-zero exit status is an error
    /// that carries standard error.
    pub fn run<S: AsRef<OsStr>>(&self, command: &[S]) -> Result<String> {
        let output = succeed(&self.shown(command), self.exec(command)?)?;
        Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned())
    }

    /// Like [`Node::run`], with `input` on standard input.
    pub fn run_with_input<S: AsRef<OsStr>>(&self, command: &[S], input: &[u8]) -> Result<String> {
        let mut entering = self.command(command)?;
        entering.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = entering.spawn().context("cannot run /bin/sh")?;
        let mut stdin = child.stdin.take().context("the command has no standard input")?;
        let output = std::thread::scope(|scope| {
            // A command that stops reading is reported by its exit status, not by the broken pipe.
            scope.spawn(move || drop(stdin.write_all(input)));
            child.wait_with_output()
        });
        let output = succeed(&self.shown(command), output.context("cannot wait for the command")?)?;
        Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned())
    }

    /// Starts a command and returns at once; its output is piped. Killing the child kills the command in the node.
    pub fn spawn<S: AsRef<OsStr>>(&self, command: &[S]) -> Result<Child> {
        let mut entering = self.command(command)?;
        entering.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        entering.spawn().context("cannot run /bin/sh")
    }

    /// Replaces the calling process by the command; returns only when that fails.
    pub fn become_command<S: AsRef<OsStr>>(&self, command: &[S]) -> Result<std::convert::Infallible> {
        let error = self.command(command)?.exec();
        Err(error).context("cannot run /bin/sh")
    }

    /// Writes a file inside the node, with its parent folders.
    pub fn write_file(&self, inside: &str, contents: impl AsRef<[u8]>) -> Result<()> {
        let path = self.path(inside)?;
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).with_context(|| format!("cannot create the folder of {inside}"))?;
        }
        std::fs::write(&path, contents).with_context(|| format!("cannot write {inside} in node {}", self.name()))
    }

    /// Writes a file that only the node's root may read.
    pub(crate) fn write_secret(&self, inside: &str, contents: &str) -> Result<()> {
        let problem = || format!("cannot write {inside} in node {}", self.name());
        let path = self.path(inside)?;
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path).with_context(problem)?;
        file.write_all(contents.as_bytes()).with_context(problem)
    }

    /// Limits the node's link in each direction (`"20mbit"`); `None` lifts the limit.
    pub fn limit_rate(&self, rate: Option<&str>) -> Result<()> {
        let rate = rate.map(crate::config::parse_rate).transpose()?;
        self.network.set_rate(self.name(), self.state.index, rate)
    }

    /// CPU time the whole node has used since it was created.
    pub fn cpu_usage(&self) -> Result<std::time::Duration> {
        self.subtree.cpu_usage()
    }

    fn shown<S: AsRef<OsStr>>(&self, command: &[S]) -> String {
        let words: Vec<_> = command.iter().map(|word| word.as_ref().to_string_lossy()).collect();
        format!("{}: {}", self.name(), words.join(" "))
    }
}

/// The node is another machine: only what concerns the terminal and the logs comes along.
pub(crate) fn clean_environment(command: &mut Command) {
    command.env_clear().env("PATH", PATH).env("HOME", "/root").env("LANG", "C.UTF-8").current_dir("/");
    for name in ["TERM", "RUST_LOG", "RUST_BACKTRACE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
}
