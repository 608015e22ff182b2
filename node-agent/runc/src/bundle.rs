//! The container's OCI configuration, with our hook and CRIU's options added.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cgroup;

/// The annotation that names CRIU's configuration file to runc.
const CRIU_CONFIG: &str = "org.criu.config";

/// What is to be called while the container is made.
pub(crate) struct Hooks<'a> {
    /// Ourselves.
    pub(crate) program: &'a Path,
    /// The restore folder.
    pub(crate) folder: &'a Path,
    /// The network is closed before anybody wires it.
    pub(crate) closed_network: bool,
}

/// Adds the hooks and the annotation to `config.json` of the bundle, and the container's cgroup to CRIU's file.
pub(crate) fn prepare(bundle: &Path, hooks: &Hooks<'_>, criu_config: &Path, systemd: bool) -> Result<(), String> {
    let file = bundle.join("config.json");
    let text = std::fs::read(&file).map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    let mut config: Value =
        serde_json::from_slice(&text).map_err(|error| format!("{} is not JSON: {error}", file.display()))?;
    add(&mut config, hooks, criu_config).ok_or_else(|| format!("{} is no OCI configuration", file.display()))?;
    if let Some(option) = cgroup::root_option(&config, systemd).filter(|_| cgroup::is_unified()) {
        let opened = OpenOptions::new().append(true).open(criu_config);
        let written = opened.and_then(|mut file| file.write_all(option.as_bytes()));
        written.map_err(|error| format!("{} cannot be written: {error}", criu_config.display()))?;
    }
    let new = bundle.join("config.json.fog");
    let written = std::fs::write(&new, config.to_string()).and_then(|()| std::fs::rename(&new, &file));
    written.map_err(|error| format!("{} cannot be written: {error}", file.display()))
}

/// Where the container's root is mounted.
pub(crate) fn rootfs(bundle: &Path) -> Option<PathBuf> {
    let config: Value = serde_json::from_slice(&std::fs::read(bundle.join("config.json")).ok()?).ok()?;
    let path = config.pointer("/root/path")?.as_str()?;
    bundle.join(path).canonicalize().ok()
}

fn add(config: &mut Value, ours: &Hooks<'_>, criu_config: &Path) -> Option<()> {
    let Hooks { program, folder, closed_network } = ours;
    let hooks = object(config.as_object_mut()?.entry("hooks").or_insert(Value::Null))?;
    if *closed_network {
        // The first one: Docker up to 27 wires the network in a hook of this phase.
        let close = json!({"path": program, "args": ["fog-runc", crate::CLOSE_NETWORK]});
        list(hooks.entry("prestart").or_insert(Value::Null))?.insert(0, close);
    }
    // The last one: every other hook of this phase is done when we block.
    let block = json!({"path": program, "args": ["fog-runc", crate::HOOK, folder]});
    list(hooks.entry("createRuntime").or_insert(Value::Null))?.push(block);
    let annotations = object(config.as_object_mut()?.entry("annotations").or_insert(Value::Null))?;
    annotations.insert(CRIU_CONFIG.into(), json!(criu_config));
    Some(())
}

fn list(value: &mut Value) -> Option<&mut Vec<Value>> {
    if value.is_null() {
        *value = json!([]);
    }
    value.as_array_mut()
}

fn object(value: &mut Value) -> Option<&mut serde_json::Map<String, Value>> {
    if value.is_null() {
        *value = json!({});
    }
    value.as_object_mut()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(mut config: Value) -> Option<Value> {
        let hooks = Hooks { program: Path::new("/bin/fog-runc"), folder: Path::new("/r/c"), closed_network: false };
        add(&mut config, &hooks, Path::new("/r/c/criu.conf")).map(|()| config)
    }

    #[test]
    fn the_network_is_closed_before_anybody_wires_it() {
        let mut config = json!({"hooks": {"prestart": [1]}});
        let hooks = Hooks { program: Path::new("/bin/fog-runc"), folder: Path::new("/r/c"), closed_network: true };
        add(&mut config, &hooks, Path::new("/c")).expect("a configuration");
        assert_eq!(config["hooks"]["prestart"][0]["args"], json!(["fog-runc", "fog-close-network"]));
        assert_eq!(config["hooks"]["prestart"][1], 1);
    }

    #[test]
    fn our_hook_comes_last() {
        let config = added(json!({"hooks": {"prestart": [1], "createRuntime": [{"path": "/x"}]}, "root": {}}));
        let config = config.expect("a configuration");
        assert_eq!(config["hooks"]["prestart"], json!([1]));
        assert_eq!(config["hooks"]["createRuntime"][0]["path"], "/x");
        assert_eq!(config["hooks"]["createRuntime"][1]["args"], json!(["fog-runc", "fog-hook", "/r/c"]));
        assert_eq!(config["annotations"]["org.criu.config"], "/r/c/criu.conf");
    }

    #[test]
    fn hooks_and_annotations_may_be_missing() {
        let config = added(json!({"annotations": {"a": "b"}})).expect("a configuration");
        assert_eq!(config["annotations"]["a"], "b");
        assert_eq!(config["hooks"]["createRuntime"].as_array().map(Vec::len), Some(1));
        assert!(added(json!([])).is_none());
    }
}
