//! Hosts, orchestrator and agents, up and talking to each other.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use fog_api::client::{Client, ClientError, Waited};
use fog_api::migration::{Migration, MigrationRequest, Phase, Strategy};
use fog_api::node::{Availability, Node};
use fog_api::workload::WorkloadState;
use fog_lab::{Lab, LabConfig, LabGuard, wait_until};
use uuid::Uuid;

/// Generous: a cluster may share its machine with a compiler.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// A running cluster; it ends with the value, also after a panic.
pub struct Cluster {
    lab: LabGuard,
    client: Client,
    runtime: tokio::runtime::Runtime,
}

/// The folder with Fogshift's programs in release mode, as `make build` leaves them.
pub fn programs() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("FOG_BIN_DIR") {
        return Ok(PathBuf::from(folder));
    }
    // A test runs from target/debug/deps, the demo from target/release.
    let program = std::env::current_exe().context("cannot find out which program is running")?;
    let folders = program.ancestors().skip(1).flat_map(|folder| [folder.to_owned(), folder.join("release")]);
    let found = folders.into_iter().find(|folder| {
        ["fog-lab", "fog-agent", "fog-runc", "fog-orchestrator"].iter().all(|name| folder.join(name).is_file())
            && !folder.ends_with("debug")
    });
    found.context("Fogshift's programs are not built: run `make build` first")
}

impl Cluster {
    /// Starts a cluster and waits until every agent reports.
    pub fn up(mut config: LabConfig, progress: &mut dyn FnMut(&str)) -> Result<Self> {
        config.bin_dir = Some(config.bin_dir.map_or_else(programs, Ok)?);
        let lab = LabGuard::new(Lab::up(config, progress)?);
        let runtime = tokio::runtime::Runtime::new().context("cannot start the client's runtime")?;
        let client = {
            let _inside = runtime.enter();
            Client::new(&lab.url(), Some(&lab.token()?))?
        };
        let cluster = Self { lab, client, runtime };
        cluster.wait_active()?;
        Ok(cluster)
    }

    /// The hosts.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// `fogctl` for this cluster, whatever the caller's environment says of another.
    pub fn fogctl(&self) -> Result<Command> {
        let mut fogctl = Command::new(programs()?.join("fogctl"));
        fogctl.env("FOG_URL", self.lab.url()).env("FOG_TOKEN", self.lab.token()?).env_remove("FOG_TOKEN_FILE");
        Ok(fogctl)
    }

    /// One host.
    #[track_caller]
    pub fn node(&self, name: &str) -> &fog_lab::Node {
        self.lab.node(name)
    }

    /// Asks the orchestrator something.
    pub fn ask<T, F: Future<Output = Result<T, ClientError>>>(&self, question: impl FnOnce(Client) -> F) -> Result<T> {
        Ok(self.runtime.block_on(question(self.client.clone()))?)
    }

    /// Waits until every node is active and connected and measures its links.
    pub fn wait_active(&self) -> Result<()> {
        let expected = self.lab.nodes().len();
        let mut last = String::new();
        let ready = wait_until(DEADLINE, "every agent to report", || {
            let nodes = match self.ask(|client| async move { client.nodes().await }) {
                Ok(nodes) => nodes.items,
                Err(error) => {
                    last = format!("{error:#}");
                    return Ok(None);
                }
            };
            let ready = |node: &Node| {
                let linked = node.links.iter().filter(|link| link.rtt_ms.is_some()).count();
                node.availability == Availability::Active && node.connected && linked + 1 == expected
            };
            let waiting = nodes.iter().filter(|node| !ready(node)).map(|node| format!("{node:?}"));
            last = waiting.collect::<Vec<_>>().join("\n");
            Ok((nodes.iter().filter(|node| ready(node)).count() == expected).then_some(()))
        });
        ready.with_context(|| format!("last seen: {last}"))
    }

    /// Waits until the orchestrator knows a workload as running on a node.
    pub fn wait_known(&self, workload: &str, node: &str) -> Result<()> {
        wait_until(DEADLINE, &format!("{workload} to be known as running on {node}"), || {
            let found = self.ask(|client| async move { client.workload(workload).await });
            Ok(found
                .ok()
                .filter(|w| w.node == node && w.state == WorkloadState::Running && w.migration.is_none())
                .map(drop))
        })
    }

    /// Begins a migration.
    pub fn begin(&self, workload: &str, destination: &str) -> Result<Migration> {
        self.begin_by(workload, destination, Strategy::Auto)
    }

    /// Begins a migration with a strategy.
    pub fn begin_by(&self, workload: &str, destination: &str, strategy: Strategy) -> Result<Migration> {
        let request =
            MigrationRequest { workload: workload.to_owned(), destination: Some(destination.to_owned()), strategy };
        self.ask(|client| async move { client.migrate(&request).await })
    }

    /// Waits until a migration is over.
    pub fn over(&self, id: Uuid) -> Result<Migration> {
        let waited =
            self.ask(|client| async move { client.wait_for_migration(id, Instant::now() + DEADLINE, |_| ()).await })?;
        match waited {
            Waited::Over(migration) => Ok(migration),
            Waited::TimedOut(last) => bail!("the migration was not over after {DEADLINE:?}: {last:?}"),
        }
    }

    /// Waits until a migration has come to a stage that satisfies `reached`.
    pub fn wait_migration(&self, id: Uuid, what: &str, reached: impl Fn(&Migration) -> bool) -> Result<Migration> {
        wait_until(DEADLINE, what, || {
            let Ok(migration) = self.ask(|client| async move { client.migration(id).await }) else { return Ok(None) };
            if migration.phase.is_over() && !reached(&migration) {
                bail!("the migration was over before {what}: {migration:?}");
            }
            Ok(reached(&migration).then_some(migration))
        })
    }

    /// Moves a workload and waits until that is done.
    pub fn migrate(&self, workload: &str, destination: &str) -> Result<Migration> {
        let migration = self.over(self.begin(workload, destination)?.id)?;
        if migration.phase != Phase::Done {
            bail!("{workload} was not moved to {destination}: {:?}", migration.cause);
        }
        Ok(migration)
    }
}

/// What Docker on a node says of a container: `running`, `paused`, `exited`, …; `None` if there is none.
pub fn state(node: &fog_lab::Node, name: &str) -> Result<Option<String>> {
    let output = node.exec(&["docker", "inspect", "--format", "{{.State.Status}}", name])?;
    let missing = String::from_utf8_lossy(&output.stderr).to_lowercase().contains("no such object");
    match (output.status.success(), missing) {
        (true, _) => Ok(Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())),
        (false, true) => Ok(None),
        (false, false) => bail!("docker inspect on {}: {}", node.name(), String::from_utf8_lossy(&output.stderr)),
    }
}

/// Whether a container's first process can run: Docker calls a held one `running` too, but its tasks are stopped.
pub fn runs(node: &fog_lab::Node, name: &str) -> Result<bool> {
    if state(node, name)?.as_deref() != Some("running") {
        return Ok(false);
    }
    let pid = node.run(&["docker", "inspect", "--format", "{{.State.Pid}}", name])?;
    let status = match std::fs::read_to_string(node.path(&format!("/proc/{pid}/status"))?) {
        Ok(status) => status,
        // It ended in between.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound) => return Ok(false),
        Err(error) => return Err(error).with_context(|| format!("cannot look at process {pid} of {}", node.name())),
    };
    let state = status.lines().find_map(|line| line.strip_prefix("State:")).context("a process without a state")?;
    Ok(matches!(state.trim().chars().next(), Some('R' | 'S' | 'D')))
}

/// Everything that a migration must not leave behind on a node, one line each; empty when it is clean.
pub fn leftovers(node: &fog_lab::Node) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for folder in ["/run/fogshift/images", "/run/fogshift/restore"] {
        let list = match std::fs::read_dir(node.path(folder)?) {
            Ok(list) => list,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot list {folder} on {}", node.name())),
        };
        for entry in list {
            found.push(format!("{folder}/{}", entry?.file_name().to_string_lossy()));
        }
    }
    let processes = node.run(&["ps", "-e", "-o", "args="])?;
    let ours = |line: &&str| {
        let program = line.split_whitespace().next().and_then(|program| program.rsplit('/').next()).unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        matches!(program, "criu" | "fog-runc")
            || words.contains(&"keep-pages")
            || (program == "runc" && words.iter().any(|word| matches!(*word, "checkpoint" | "restore")))
    };
    found.extend(processes.lines().filter(ours).map(|line| format!("process {line}")));
    let paused = node.run(&["docker", "ps", "--quiet", "--filter", "status=paused"])?;
    found.extend(paused.lines().map(|id| format!("paused container {id}")));
    let created = node.run(&["docker", "ps", "--all", "--quiet", "--filter", "status=created"])?;
    found.extend(created.lines().map(|id| format!("container {id} that never started")));
    Ok(found)
}
