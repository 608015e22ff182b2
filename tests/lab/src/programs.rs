//! The programs under test: dockerd and fog-agent in the nodes, fog-orchestrator beside them. Each can be started,
//! stopped in order, or killed, which is how tests make faults.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;
use serde::Serialize;

use crate::daemon::{Daemon, Place};
use crate::host::{create_public, write};
use crate::lab::Lab;
use crate::node::Node;

/// The programs a lab takes from its folder of programs.
pub(crate) const AGENT: &str = "fog-agent";
pub(crate) const RUNTIME: &str = "fog-runc";
pub(crate) const ORCHESTRATOR: &str = "fog-orchestrator";

const AGENT_CONFIG: &str = "/etc/fogshift/agent.toml";
const TOKEN: &str = "/etc/fogshift/token";
const TRANSFER_PORT: u16 = 7710;
/// Generous, because a lab may share its machine with a compiler.
const DOCKERD_READY: Duration = Duration::from_secs(90);
const ORCHESTRATOR_READY: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(20);
const ANSWER: Duration = Duration::from_secs(2);

#[derive(Serialize)]
struct OrchestratorConfig {
    listen: Vec<String>,
    data_dir: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<PathBuf>,
}

#[derive(Serialize)]
struct AgentConfig<'a> {
    orchestrator: String,
    token_file: &'a str,
    node: &'a str,
    scope: &'a str,
    transfer_listen: String,
    transfer_address: String,
    /// The quota, which a node that sees only cgroup v2 cannot read where the machine has the controllers on v1.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpus: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_bytes: Option<u64>,
    labels: &'a BTreeMap<String, String>,
}

/// Fills the layer that all nodes see on top of their root file system: daemon.json, and Fogshift's programs.
pub(crate) fn prepare_layer(
    layer: &Path,
    docker_options: &serde_json::Map<String, serde_json::Value>,
    bin_dir: Option<&Path>,
) -> Result<()> {
    let docker = create_public(layer, Path::new("etc/docker"))?;
    let mut daemon = serde_json::json!({
        "experimental": true,
        "runtimes": { "fog": { "path": "/usr/local/bin/fog-runc" } },
    });
    if let Some(daemon) = daemon.as_object_mut() {
        daemon.extend(docker_options.clone());
    }
    write(&docker.join("daemon.json"), &format!("{daemon:#}\n"))?;
    let programs = create_public(layer, Path::new("usr/local/bin"))?;
    if let Some(bin_dir) = bin_dir {
        for program in [AGENT, RUNTIME] {
            copy_program(bin_dir, program, &programs)?;
        }
    }
    Ok(())
}

/// Copies a program, so that a lab keeps running the one it was started with while a new one is built.
pub(crate) fn copy_program(bin_dir: &Path, name: &str, target: &Path) -> Result<()> {
    let source = bin_dir.join(name);
    fs::copy(&source, target.join(name)).map(drop).with_context(|| {
        format!(
            "cannot take {name} from {}: build it, name its folder with --bin-dir, or use --no-programs",
            bin_dir.display()
        )
    })
}

pub(crate) fn dockerd(node: &Node) -> Daemon<'_> {
    Daemon { name: "dockerd".to_owned(), place: Place::Node(node) }
}

pub(crate) fn agent(node: &Node) -> Daemon<'_> {
    Daemon { name: AGENT.to_owned(), place: Place::Node(node) }
}

/// Starts a node's dockerd and waits until it answers.
pub(crate) fn start_dockerd(node: &Node) -> Result<()> {
    let daemon = dockerd(node);
    daemon.start(&["dockerd"])?;
    let socket = node.path("/run/docker.sock")?;
    daemon
        .wait_ready(DOCKERD_READY, || docker_answers(&socket).unwrap_or(false))
        .with_context(|| format!("Docker does not work in node {}", node.name()))
}

fn docker_answers(socket: &Path) -> std::io::Result<bool> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")?;
    answered_ok(&mut stream)
}

fn http_answers(port: u16, path: &str) -> std::io::Result<bool> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n").as_bytes())?;
    answered_ok(&mut stream)
}

fn answered_ok(stream: &mut impl Read) -> std::io::Result<bool> {
    let mut answer = Vec::new();
    stream.take(64 * 1024).read_to_end(&mut answer)?;
    Ok(answer.get(8..12) == Some(b" 200")) // "HTTP/1.x 200 OK"
}

/// What tests do to the programs.
impl Lab {
    pub(crate) fn orchestrator(&self) -> Daemon<'_> {
        let place = Place::Outside { directory: &self.directory, join: self.outside.join_files() };
        Daemon { name: "orchestrator".to_owned(), place }
    }

    /// Starts the orchestrator, unless it runs, and waits until it is ready.
    pub fn start_orchestrator(&self) -> Result<()> {
        let port = self.state.orchestrator_port;
        let data_dir = self.directory.join("orchestrator");
        fs::create_dir_all(&data_dir).with_context(|| format!("cannot create {}", data_dir.display()))?;
        let config = OrchestratorConfig {
            listen: vec![format!("127.0.0.1:{port}"), format!("{}:{port}", self.state.bridge_address())],
            data_dir,
            policy: self.state.policy.clone(),
        };
        let config_path = self.directory.join("orchestrator.toml");
        write(&config_path, &toml::to_string(&config).context("cannot write the orchestrator's configuration")?)?;
        let program = self.directory.join("bin").join(ORCHESTRATOR);
        let orchestrator = self.orchestrator();
        orchestrator.start(&[&program.to_string_lossy(), "--config", &config_path.to_string_lossy()])?;
        orchestrator.wait_ready(ORCHESTRATOR_READY, || http_answers(port, "/readyz").unwrap_or(false))
    }

    /// SIGTERM, then SIGKILL if it has not ended in time.
    pub fn stop_orchestrator(&self) -> Result<()> {
        self.orchestrator().stop(STOP)
    }

    /// SIGKILL.
    pub fn kill_orchestrator(&self) -> Result<()> {
        self.orchestrator().kill()
    }

    pub fn orchestrator_is_running(&self) -> bool {
        self.orchestrator().is_running()
    }

    /// Writes the agent's configuration and token, and starts it unless it runs. It does not wait for the agent to reach
    /// the orchestrator: ask the orchestrator for that.
    pub fn start_agent(&self, node: &str) -> Result<()> {
        let node = self.find_node(node)?;
        let config = AgentConfig {
            orchestrator: format!("http://{}:{}", self.state.bridge_address(), self.state.orchestrator_port),
            token_file: TOKEN,
            node: node.name(),
            scope: "cgroup",
            transfer_listen: format!("0.0.0.0:{TRANSFER_PORT}"),
            transfer_address: format!("{}:{TRANSFER_PORT}", node.address()),
            cpus: node.state.cpus,
            memory_bytes: node.state.memory_bytes,
            labels: &node.state.labels,
        };
        node.write_file(AGENT_CONFIG, toml::to_string(&config).context("cannot write the agent's configuration")?)?;
        node.write_secret(TOKEN, &self.token()?)?;
        agent(node).start(&["/usr/local/bin/fog-agent", "run", "--config", AGENT_CONFIG])
    }

    /// SIGTERM, then SIGKILL if it has not ended in time.
    pub fn stop_agent(&self, node: &str) -> Result<()> {
        agent(self.find_node(node)?).stop(STOP)
    }

    /// SIGKILL.
    pub fn kill_agent(&self, node: &str) -> Result<()> {
        agent(self.find_node(node)?).kill()
    }

    /// SIGSTOP: it holds still, with every connection open.
    pub fn freeze_agent(&self, node: &str) -> Result<()> {
        agent(self.find_node(node)?).signal(Signal::STOP).map(drop)
    }

    /// SIGCONT.
    pub fn wake_agent(&self, node: &str) -> Result<()> {
        agent(self.find_node(node)?).signal(Signal::CONT).map(drop)
    }

    /// SIGSTOP.
    pub fn freeze_orchestrator(&self) -> Result<()> {
        self.orchestrator().signal(Signal::STOP).map(drop)
    }

    /// SIGCONT.
    pub fn wake_orchestrator(&self) -> Result<()> {
        self.orchestrator().signal(Signal::CONT).map(drop)
    }

    pub fn agent_is_running(&self, node: &str) -> Result<bool> {
        Ok(agent(self.find_node(node)?).is_running())
    }

    /// Starts a node's dockerd, unless it runs, and waits until it answers.
    pub fn start_dockerd(&self, node: &str) -> Result<()> {
        start_dockerd(self.find_node(node)?)
    }

    /// SIGTERM, then SIGKILL if it has not ended in time. dockerd stops its containers.
    pub fn stop_dockerd(&self, node: &str) -> Result<()> {
        dockerd(self.find_node(node)?).stop(STOP)
    }

    /// SIGKILL. Containers run on without a daemon.
    pub fn kill_dockerd(&self, node: &str) -> Result<()> {
        dockerd(self.find_node(node)?).kill()
    }

    pub fn dockerd_is_running(&self, node: &str) -> Result<bool> {
        Ok(dockerd(self.find_node(node)?).is_running())
    }
}
