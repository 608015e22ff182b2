//! What `doctor --fix` changes: only things that stop no container and can be taken back.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Map, Value, json};

use crate::config::Config;
use crate::runtime::Docker;

/// The name under which Docker knows the restoring runtime.
pub const RUNTIME: &str = "fog";

/// What CRIU's page server asks of a pipe.
pub const PIPE_SIZE: u64 = 16 << 20;

/// Where the kernel keeps the limit.
pub const PIPE_SIZE_FILE: &str = "/proc/sys/fs/pipe-max-size";

const SYSCTL_FILE: &str = "/etc/sysctl.d/60-fogshift.conf";
const DOCKER_PID_FILE: &str = "/var/run/docker.pid";

/// Applies everything that is safe, and says what it did and what it could not do.
pub async fn apply(config: &Config) -> Vec<String> {
    let mut said = Vec::new();
    let mut say = |result: Result<Option<String>, String>| match result {
        Ok(Some(done)) => said.push(done),
        Ok(None) => {}
        Err(reason) => said.push(format!("not done: {reason}")),
    };
    say(raise_pipe_size());
    let registered = register_in_file(config);
    let reload = registered.is_ok();
    say(registered);
    if reload {
        say(reload_dockerd(config).await);
    }
    said
}

fn raise_pipe_size() -> Result<Option<String>, String> {
    let current = std::fs::read_to_string(PIPE_SIZE_FILE).ok().and_then(|text| text.trim().parse::<u64>().ok());
    if current.is_some_and(|size| size >= PIPE_SIZE) {
        return Ok(None);
    }
    std::fs::write(PIPE_SIZE_FILE, PIPE_SIZE.to_string()).map_err(|error| format!("{PIPE_SIZE_FILE}: {error}"))?;
    let line = format!("# CRIU's page server needs large pipes.\nfs.pipe-max-size = {PIPE_SIZE}\n");
    let path = Path::new(SYSCTL_FILE);
    std::fs::create_dir_all(path.parent().unwrap_or(path))
        .and_then(|()| std::fs::write(path, line))
        .map_err(|error| format!("fs.pipe-max-size is set, but not for the next boot: {SYSCTL_FILE}: {error}"))?;
    Ok(Some(format!("set fs.pipe-max-size to {PIPE_SIZE}, and in {SYSCTL_FILE} for the next boot")))
}

/// dockerd's configuration: which file it is and what the command line adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonConfig {
    /// The file.
    pub path: PathBuf,
    /// dockerd was started with `--add-runtime fog=…`.
    pub runtime_by_flag: bool,
    /// dockerd was started with some `--add-runtime`. A file with runtimes would then keep it from starting.
    runtimes_by_flag: bool,
}

impl DaemonConfig {
    /// Looks at the running dockerd; without one the configured file stands.
    pub fn locate(configured: &Path) -> Result<Self, String> {
        let arguments =
            dockerd_pid().and_then(|pid| std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).ok());
        let arguments = arguments.unwrap_or_default();
        let arguments: Vec<&str> = arguments
            .split(|&byte| byte == 0)
            .map(|argument| std::str::from_utf8(argument).unwrap_or_default())
            .collect();
        Self::from_arguments(configured, &arguments)
    }

    fn from_arguments(configured: &Path, arguments: &[&str]) -> Result<Self, String> {
        let mut found = Self { path: configured.to_owned(), runtime_by_flag: false, runtimes_by_flag: false };
        let mut rest = arguments.iter().copied();
        while let Some(argument) = rest.next() {
            let (flag, value) = match argument.split_once('=') {
                Some((flag, value)) => (flag, Some(value)),
                None => (argument, None),
            };
            match flag {
                "--config-file" => {
                    let value = value.or_else(|| rest.next()).unwrap_or_default();
                    if !value.starts_with('/') {
                        return Err(format!(
                            "dockerd reads its configuration from {value:?}, relative to an unknown place"
                        ));
                    }
                    found.path = PathBuf::from(value);
                }
                "--add-runtime" => {
                    let value = value.or_else(|| rest.next()).unwrap_or_default();
                    found.runtimes_by_flag = true;
                    found.runtime_by_flag |= value.split('=').next() == Some(RUNTIME);
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// The file's content; `None` if it is not there.
    pub fn read(&self) -> Result<Option<Map<String, Value>>, String> {
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{}: {error}", self.path.display())),
        };
        if text.trim().is_empty() {
            return Ok(Some(Map::new()));
        }
        match serde_json::from_str(&text) {
            Ok(Value::Object(content)) => Ok(Some(content)),
            Ok(_) => Err(format!("{} holds no JSON object", self.path.display())),
            Err(error) => Err(format!("{} is not valid JSON: {error}", self.path.display())),
        }
    }
}

/// The program registered as our runtime, if any.
pub fn runtime_path(content: &Map<String, Value>) -> Option<&str> {
    content.get("runtimes")?.get(RUNTIME)?.get("path")?.as_str().filter(|path| !path.is_empty())
}

/// Adds the runtime and leaves everything else as it is.
fn merge(mut content: Map<String, Value>, program: &Path) -> Result<Map<String, Value>, String> {
    let runtimes = content.entry("runtimes").or_insert_with(|| json!({}));
    let Value::Object(runtimes) = runtimes else {
        return Err("\"runtimes\" in Docker's configuration is not an object".to_owned());
    };
    let Value::Object(ours) = runtimes.entry(RUNTIME).or_insert_with(|| json!({})) else {
        return Err(format!("\"runtimes\".\"{RUNTIME}\" in Docker's configuration is not an object"));
    };
    ours.insert("path".to_owned(), json!(program.to_string_lossy()));
    Ok(content)
}

fn register_in_file(config: &Config) -> Result<Option<String>, String> {
    let daemon = DaemonConfig::locate(&config.docker_config)?;
    let shown = daemon.path.display();
    let content = daemon.read().map_err(|reason| format!("{reason}; correct it by hand first"))?;
    if daemon.runtime_by_flag || content.as_ref().is_some_and(|content| runtime_path(content).is_some()) {
        return Ok(None);
    }
    if daemon.runtimes_by_flag {
        return Err(format!(
            "dockerd is started with --add-runtime, and would not start with runtimes in {shown} as well; add \
             --add-runtime {RUNTIME}={} to its command line",
            config.fog_runc.display()
        ));
    }
    let existed = content.is_some();
    let merged = merge(content.unwrap_or_default(), &config.fog_runc)?;
    let mut text = serde_json::to_string_pretty(&merged).map_err(|error| error.to_string())?;
    text.push('\n');
    let backup = if existed { Some(back_up(&daemon.path).map_err(|error| format!("{shown}: {error}"))?) } else { None };
    replace(&daemon.path, text.as_bytes()).map_err(|error| format!("{shown}: {error}"))?;
    let kept = backup.map_or_else(String::new, |path| format!("; what was there is in {}", path.display()));
    Ok(Some(format!("registered the runtime {RUNTIME} in {shown}{kept}")))
}

fn back_up(path: &Path) -> std::io::Result<PathBuf> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(jiff::Zoned::now().strftime(".before-fogshift-%Y%m%d-%H%M%S").to_string());
    let backup = path.with_file_name(name);
    std::fs::copy(path, &backup)?;
    Ok(backup)
}

/// Writes beside the file, then renames: dockerd never sees half of it. Follows a symbolic link.
fn replace(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(directory)?;
    let before = std::fs::metadata(&path).ok();
    let temporary = directory.join(format!(".{}.fogshift", path.file_name().unwrap_or_default().to_string_lossy()));
    let written = (|| {
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&temporary)?;
        if let Some(before) = &before {
            file.set_permissions(std::fs::Permissions::from_mode(before.permissions().mode()))?;
            std::os::unix::fs::fchown(&file, Some(before.uid()), Some(before.gid()))?;
        }
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&temporary, &path)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

/// The running dockerd, if its PID file tells the truth.
fn dockerd_pid() -> Option<Pid> {
    let pid = std::fs::read_to_string(DOCKER_PID_FILE).ok()?.trim().parse::<i32>().ok()?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    if name.trim() == "dockerd" { Pid::from_raw(pid) } else { None }
}

/// dockerd takes new runtimes over on SIGHUP; containers go on.
async fn reload_dockerd(config: &Config) -> Result<Option<String>, String> {
    let docker = Docker::new(&config.docker_socket).map_err(|error| error.to_string())?;
    let knows = async || docker.daemon().await.is_ok_and(|daemon| daemon.runtimes.contains_key(RUNTIME));
    if knows().await {
        return Ok(None);
    }
    let pid = dockerd_pid().ok_or_else(|| format!("no running dockerd found by {DOCKER_PID_FILE}; start it"))?;
    kill_process(pid, Signal::HUP).map_err(|error| format!("cannot signal dockerd (process {pid:?}): {error}"))?;
    for _ in 0..50 {
        if knows().await {
            return Ok(Some("reloaded dockerd (SIGHUP); no container was stopped".to_owned()));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err("dockerd was told to reload (SIGHUP) but does not list the runtime; its log says why".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn program() -> &'static Path {
        Path::new("/usr/local/bin/fog-runc")
    }

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().cloned().expect("an object")
    }

    #[test]
    fn everything_that_is_there_stays() {
        let before = object(json!({
            "log-driver": "journald",
            "runtimes": {"crun": {"path": "crun"}, "fog": {"runtimeArgs": ["--debug"], "path": ""}},
            "default-ulimits": {"nofile": {"Hard": 64000}},
        }));
        let merged = merge(before.clone(), program()).expect("merged");
        assert_eq!(runtime_path(&merged), Some("/usr/local/bin/fog-runc"));
        assert_eq!(merged["runtimes"]["fog"]["runtimeArgs"], json!(["--debug"]));
        assert_eq!(merged["runtimes"]["crun"], before["runtimes"]["crun"]);
        assert_eq!(merged["log-driver"], "journald");
        assert_eq!(merge(merged.clone(), program()).expect("again"), merged);
    }

    #[test]
    fn what_cannot_be_merged_is_refused() {
        assert!(merge(object(json!({"runtimes": []})), program()).is_err());
        assert!(merge(object(json!({"runtimes": {"fog": "x"}})), program()).is_err());
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-z/.=-]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z-]{1,8}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_merge_only_adds(content in prop::collection::btree_map("[a-z-]{1,10}", json_value(), 0..6)) {
            let before: Map<String, Value> = content.into_iter().collect();
            if let Ok(mut merged) = merge(before.clone(), program()) {
                prop_assert_eq!(runtime_path(&merged), Some("/usr/local/bin/fog-runc"));
                let had_runtimes = before.contains_key("runtimes");
                let runtimes = merged["runtimes"].as_object_mut().expect("an object");
                runtimes.remove(RUNTIME);
                if !had_runtimes {
                    merged.remove("runtimes");
                }
                let mut expected = before;
                if let Some(Value::Object(runtimes)) = expected.get_mut("runtimes") {
                    runtimes.remove(RUNTIME);
                }
                prop_assert_eq!(merged, expected);
            } else {
                prop_assert!(before.get("runtimes").is_some());
            }
        }
    }

    #[test]
    fn the_file_is_replaced_whole_and_keeps_its_mode() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("docker/daemon.json");
        replace(&path, b"{}").expect("made");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
        let backup = back_up(&path).expect("backup");
        replace(&path, b"{\"a\":1}").expect("replaced");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "{\"a\":1}");
        assert_eq!(std::fs::read_to_string(backup).expect("read"), "{}");
        assert_eq!(std::fs::metadata(&path).expect("stat").permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(path.parent().expect("parent")).expect("list").count(), 2, "nothing left behind");
    }

    #[test]
    fn broken_files_are_refused() {
        let directory = tempfile::tempdir().expect("tempdir");
        let config = DaemonConfig {
            path: directory.path().join("daemon.json"),
            runtime_by_flag: false,
            runtimes_by_flag: false,
        };
        assert_eq!(config.read(), Ok(None));
        for (text, valid) in [("", true), ("{}", true), ("{\"a\": 1,}", false), ("[]", false), ("{", false)] {
            std::fs::write(&config.path, text).expect("write");
            assert_eq!(config.read().is_ok(), valid, "{text}");
        }
    }

    #[test]
    fn the_command_line_of_dockerd_counts() {
        let configured = Path::new("/etc/docker/daemon.json");
        let of = |arguments: &[&str]| DaemonConfig::from_arguments(configured, arguments);
        assert_eq!(of(&["dockerd", "-H", "fd://"]).expect("fine").path, configured);
        assert_eq!(of(&["dockerd", "--config-file", "/x.json"]).expect("fine").path, Path::new("/x.json"));
        assert_eq!(of(&["dockerd", "--config-file=/y.json"]).expect("fine").path, Path::new("/y.json"));
        assert!(of(&["dockerd", "--config-file=y.json"]).is_err());
        let flagged = of(&["dockerd", "--add-runtime=fog=/bin/fog-runc"]).expect("fine");
        assert!(flagged.runtime_by_flag && flagged.runtimes_by_flag);
        let other = of(&["dockerd", "--add-runtime", "crun=/bin/crun"]).expect("fine");
        assert!(!other.runtime_by_flag && other.runtimes_by_flag);
    }
}
