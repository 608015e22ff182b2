//! `runc checkpoint` of a container that Docker runs.
//!
//! CRIU writes its own code into the tasks while it dumps. Killing it in the middle would leave that code behind in
//! them, so a dump that has begun is never cut short: whoever wants to thaw waits for its end. It also outlives the
//! agent; its identity is in the journal, and it needs nothing of ours to finish.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use fog_api::agent::{FailureKind, Peer};
use serde_json::Value;

use super::connections::Fate;
use super::early::Early;
use super::failure::Cause;
use super::gate::{self, Gate, Waiting};
use super::images::Folder;
use super::{blocking, criu, tasks, watches};
use crate::journal::ProcessIdentity;
use crate::tools;

/// Where Docker's containerd shims keep runc's state, one folder a runtime.
const DOCKER_RUN: &str = "/run/docker";

/// The first runc that can leave cgroups out of the images.
const IGNORES_CGROUPS: [u32; 3] = [1, 2, 0];

/// The first runc with a flag for connections that nobody has accepted yet; before, CRIU's configuration file has the say.
const SKIPS_IN_FLIGHT: [u32; 3] = [1, 3, 0];
/// CRIU's page server is looked for so often.
const LOOK: Duration = Duration::from_millis(1);

/// What runc does before CRIU takes a twentieth of a second.
const LONGEST_PREPARATION: Duration = Duration::from_secs(60);

/// A dump that takes longer than this is stuck.
pub(super) const LONGEST: Duration = Duration::from_secs(600);

/// Whose the network namespace's content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Network {
    /// All of it is Docker's making, and Docker makes it anew: it is not dumped.
    Dockers,
    /// The container may have changed it.
    Containers,
}

impl Network {
    /// Only with this capability can a container change it.
    pub(super) fn of(inspect: &Value) -> Network {
        let added = inspect.pointer("/HostConfig/CapAdd").and_then(Value::as_array).into_iter().flatten();
        let mut added = added.filter_map(Value::as_str).map(|name| name.trim_start_matches("CAP_"));
        if added.any(|name| matches!(name, "NET_ADMIN" | "SYS_ADMIN" | "ALL")) {
            Network::Containers
        } else {
            Network::Dockers
        }
    }
}

/// Everything a dump needs to know, found out while the container still runs.
pub(super) struct Plan {
    container: String,
    folder: Folder,
    root: PathBuf,
    options: PathBuf,
    criu_options: String,
    in_flight: bool,
    network: Network,
    without_cgroups: bool,
    memory_apart: bool,
}

impl Plan {
    /// Looks runc's state up and writes CRIU's options.
    pub(super) async fn make(
        container: &str,
        inspect: &Value,
        folder: &Folder,
        destination: &Peer,
        memory_apart: bool,
    ) -> Result<Plan, Cause> {
        let options = folder.work().join("dump.conf");
        let prepared = blocking({
            let container = container.to_owned();
            let init = inspect.pointer("/State/Pid").and_then(Value::as_i64).and_then(|pid| i32::try_from(pid).ok());
            move || {
                let mut options = criu::options(&criu::node_options());
                options.push_str(&init.map(watches::options).unwrap_or_default());
                (options, runc_root(Path::new(DOCKER_RUN), &container))
            }
        });
        let (prepared, runc, ()) = tokio::join!(prepared, tools::runc_version(), criu::warm());
        let theirs = destination.runc.as_deref().and_then(tools::Version::parse);
        let (criu_options, root) = prepared?;
        let root = root.ok_or_else(|| {
            Cause::new(
                FailureKind::Runtime,
                format!("runc's state of container {container} is not below {DOCKER_RUN}; is it run by runc?"),
            )
        })?;
        Ok(Plan {
            container: container.to_owned(),
            folder: folder.clone(),
            root,
            options,
            criu_options,
            in_flight: runc.as_ref().is_some_and(|version| version.at_least(SKIPS_IN_FLIGHT)),
            network: Network::of(inspect),
            memory_apart,
            without_cgroups: [runc, theirs]
                .into_iter()
                .all(|runc| runc.is_some_and(|version| version.at_least(IGNORES_CGROUPS))),
        })
    }
}

impl Plan {
    /// What the destination can begin with before the freeze.
    pub(super) fn early(&self, keep_connections: bool) -> Early {
        Early {
            network: self.network == Network::Containers,
            cgroups: !self.without_cgroups,
            closed_network: keep_connections,
        }
    }
}

/// A `runc checkpoint` that runs, or waits for the freeze.
pub(super) struct Dump {
    child: tokio::process::Child,
    folder: Folder,
    page_server: Option<SocketAddr>,
    waiting: Option<Waiting>,
    pub(super) identity: Option<ProcessIdentity>,
}

impl Dump {
    /// Starts runc while the container still runs. Returns when CRIU is all that is missing, and would begin.
    pub(super) async fn prepare(plan: &Plan) -> Result<Dump, Cause> {
        let not_prepared = |error: std::io::Error| Cause::node("The dump could not be prepared", &error);
        // CRIU also reads it to answer runc's questions.
        std::fs::write(&plan.options, &plan.criu_options).map_err(not_prepared)?;
        let empty = (plan.network == Network::Dockers).then_some(["--empty-ns", "network"]);
        // A connection that nobody has accepted yet is left to its client to make anew.
        let in_flight = plan.in_flight.then_some("--tcp-skip-in-flight");
        // Docker makes the cgroup at the destination, with its limits; the restored tasks are born in it.
        let cgroups = plan.without_cgroups.then_some(["--manage-cgroups-mode", "ignore"]);
        let page_server = if plan.memory_apart { Some(free_port()?) } else { None };
        let server = page_server.map(|address| address.to_string());
        let place = plan.folder.work().join("gate.sock");
        let gate = Gate::at(&place).map_err(not_prepared)?;
        let environment = gate::program()
            .and_then(|program| fog_stand_in::prepare(&plan.folder.path().join("bin"), &program))
            .map_err(not_prepared)?;
        let mut command = tokio::process::Command::new("runc");
        let mut child = command
            .arg("--root")
            .arg(&plan.root)
            .arg("--log")
            .arg(log_file(&plan.folder))
            // `tcp-close` among the options has the last word where connections are not kept.
            .args(["--log-format", "json", "checkpoint", "--leave-running", "--file-locks", "--tcp-established"])
            .args(empty.into_iter().chain(cgroups).flatten())
            .args(in_flight)
            .args(server.iter().flat_map(|address| ["--lazy-pages", "--page-server", address]))
            .arg("--image-path")
            .arg(plan.folder.images())
            .arg("--work-path")
            .arg(plan.folder.work())
            .arg(&plan.container)
            // runc has no flag for everything and reads no file of ours; CRIU itself does.
            .env("CRIU_CONFIG_FILE", &plan.options)
            .envs(environment)
            .env(fog_stand_in::GATE, place)
            .envs(plan.memory_apart.then(|| (fog_stand_in::LATER, plan.folder.work())))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| Cause::node("runc could not be started; is it installed", &error))?;
        let identity = child.id().and_then(|pid| tasks::identify(i32::try_from(pid).ok()?));
        let reached = tokio::select! {
            reached = tokio::time::timeout(LONGEST_PREPARATION, gate.reached()) => Some(reached),
            _ = child.wait() => None,
        };
        let mut dump = Dump { child, folder: plan.folder.clone(), page_server, waiting: None, identity };
        match reached {
            Some(Ok(Ok(waiting))) => dump.waiting = Some(waiting),
            Some(Ok(Err(error))) => return Err(not_prepared(error)),
            Some(Err(_)) => {
                let message = format!("runc did not begin to dump within {} s.", LONGEST_PREPARATION.as_secs());
                return Err(Cause::new(FailureKind::Runtime, message));
            }
            // It says why.
            None => dump.finish().await?,
        }
        Ok(dump)
    }

    /// The container is frozen: CRIU begins. The container stays frozen.
    pub(super) async fn begin(&mut self, plan: &Plan, fate: Fate) -> Result<(), Cause> {
        let options = format!("{}{}skip-in-flight\n", plan.criu_options, fate.option());
        let marked = std::fs::write(&plan.options, options).and_then(|()| fate.mark(&plan.folder.images()));
        let begun = match (marked, self.waiting.take()) {
            (Ok(()), Some(waiting)) => waiting.go(None).await,
            (Ok(()), None) => Err(std::io::Error::other("runc ended too early")),
            (Err(error), _) => Err(error),
        };
        begun.map_err(|error| Cause::node("The dump could not begin", &error))
    }

    /// Waits for its end; what CRIU says comes with the failure.
    pub(super) async fn finish(&mut self) -> Result<(), Cause> {
        let page_server = self.page_server;
        let ended = async {
            let dismiss = async {
                match page_server {
                    Some(address) => dismiss(address).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                status = self.child.wait() => status,
                () = dismiss => self.child.wait().await,
            }
        };
        let status = match tokio::time::timeout(LONGEST, ended).await {
            Ok(status) => status.map_err(|error| Cause::node("runc checkpoint was lost", &error))?,
            Err(_) => {
                let message = format!("The dump did not end within {} s.", LONGEST.as_secs());
                return Err(Cause::new(FailureKind::Runtime, message));
            }
        };
        if status.success() {
            return Ok(());
        }
        let folder = self.folder.clone();
        let (log, said) =
            blocking(move || (criu::last_lines(&folder.work().join("dump.log")), runc_errors(&log_file(&folder))))
                .await?;
        let reason = match criu::meaning(&log) {
            Some(meaning) => meaning.to_owned(),
            None if said.is_empty() => format!("runc checkpoint ended with {status}."),
            None => format!("runc checkpoint: {said}"),
        };
        Err(Cause::new(FailureKind::Runtime, format!("The container could not be dumped. {reason}")).with_log(log))
    }
}

/// Where CRIU may serve pages: it has to be told a port.
fn free_port() -> Result<SocketAddr, Cause> {
    let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    free.map_err(|error| Cause::node("There is no free port on the loopback interface", &error))
}

/// CRIU has dumped everything but memory and offers that to whoever connects. We read it from the frozen tasks
/// ourselves, so all it hears is a connection that closes, upon which it ends well.
async fn dismiss(page_server: SocketAddr) {
    while tokio::net::TcpStream::connect(page_server).await.is_err() {
        tokio::time::sleep(LOOK).await;
    }
}

fn log_file(folder: &Folder) -> PathBuf {
    folder.work().join("runc.log")
}

/// Waits for a dump that an earlier run of this agent began. Blocking. False when it does not end.
pub(super) fn wait_for_orphan(dump: ProcessIdentity) -> bool {
    tasks::wait_until(LONGEST, || !tasks::group_is_alive(dump))
}

/// The `--root` under which runc knows the container: `<docker run>/runtime-<name>/moby`.
fn runc_root(docker_run: &Path, container: &str) -> Option<PathBuf> {
    let runtimes = std::fs::read_dir(docker_run).ok()?.flatten();
    let mut roots = runtimes
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("runtime-"))
        .map(|entry| entry.path().join("moby"));
    roots.find(|root| root.join(container).join("state.json").is_file())
}

/// The messages in runc's JSON log.
fn runc_errors(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let errors = lines.filter(|line| line.get("level").and_then(Value::as_str) == Some("error"));
    let messages = errors.filter_map(|line| line.get("msg")?.as_str().map(str::to_owned));
    messages.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_capable_container_has_a_network_of_its_own() {
        let of = |added: Value| Network::of(&serde_json::json!({"HostConfig": {"CapAdd": added}}));
        assert_eq!(of(Value::Null), Network::Dockers);
        assert_eq!(of(serde_json::json!(["CAP_CHOWN"])), Network::Dockers);
        assert_eq!(of(serde_json::json!(["CAP_NET_ADMIN"])), Network::Containers);
        assert_eq!(of(serde_json::json!(["ALL"])), Network::Containers);
    }

    #[test]
    fn the_root_is_where_the_state_is() {
        let folder = tempfile::tempdir().expect("a folder");
        for runtime in ["runtime-runc", "runtime-fog", "other"] {
            std::fs::create_dir_all(folder.path().join(runtime).join("moby")).expect("create");
        }
        assert_eq!(runc_root(folder.path(), "abc"), None);
        let state = folder.path().join("runtime-fog").join("moby").join("abc");
        std::fs::create_dir_all(&state).expect("create");
        std::fs::write(state.join("state.json"), "{}").expect("write");
        assert_eq!(runc_root(folder.path(), "abc"), Some(folder.path().join("runtime-fog").join("moby")));
    }

    #[test]
    fn runcs_errors_are_collected() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(
            file.path(),
            "{\"level\":\"info\",\"msg\":\"a\"}\n{\"level\":\"error\",\"msg\":\"b\"}\nrubbish\n",
        )
        .expect("write");
        assert_eq!(runc_errors(file.path()), "b");
    }
}
