//! What stands in the way of moving a container, read out of `docker inspect`.
//!
//! Each obstacle is a whole sentence for people. All of them are reported at once, so that nobody
//! has to remove one to learn of the next.

use fog_api::preflight::Finding;
use serde::Serialize;
use serde_json::Value;

/// The runtimes whose containers can be dumped: runc under its usual names, and our own.
const RUNTIMES: &[&str] = &["", "runc", "io.containerd.runc.v2", "fog"];

/// Everything in the container's configuration that rules out moving it, now and later; empty when nothing does. What it
/// happens to be doing, the [`WorkloadState`](fog_api::workload::WorkloadState) says.
/// Takes `docker inspect` as raw JSON or as bollard's type.
pub fn lasting_obstacles(inspect: &impl Serialize) -> Vec<String> {
    judge(inspect, &[configuration, mounts]).into_iter().map(|found| found.message).collect()
}

/// Everything that rules out moving it at this moment.
pub fn obstacles(inspect: &impl Serialize) -> Vec<Finding> {
    judge(inspect, &[state, configuration, mounts])
}

fn judge(inspect: &impl Serialize, aspects: &[fn(&Value, &mut Vec<Finding>)]) -> Vec<Finding> {
    let mut found = Vec::new();
    match serde_json::to_value(inspect) {
        Ok(inspect) => aspects.iter().for_each(|aspect| aspect(&inspect, &mut found)),
        Err(error) => {
            found.push(Finding::blocker("configuration", format!("Its configuration cannot be read ({error}).")))
        }
    }
    found
}

fn state(inspect: &Value, found: &mut Vec<Finding>) {
    if flag(inspect, "/State/Restarting") {
        found.push(Finding::blocker("state", "Docker is just restarting the container."));
    } else if flag(inspect, "/State/Paused") {
        found.push(Finding::blocker("state", "The container is paused; unpause it first."));
    } else if !flag(inspect, "/State/Running") {
        let status = text(inspect, "/State/Status");
        let status = if status.is_empty() { "stopped" } else { status };
        found.push(Finding::blocker("state", format!("The container is not running but {status}.")));
    }
    // A health check is an exec too; it is over before long.
    let checked = list(inspect, "/Config/Healthcheck/Test").first().is_some_and(|kind| *kind != "NONE");
    let execs = list(inspect, "/ExecIDs").len();
    if execs > 0 && !checked {
        found.push(Finding::blocker(
            "exec",
            format!("{execs} `docker exec` session(s) run in the container; end them first."),
        ));
    }
}

fn configuration(inspect: &Value, found: &mut Vec<Finding>) {
    if flag(inspect, "/Config/Tty") {
        found.push(Finding::blocker("tty", "The container has a TTY; create it without --tty."));
    }
    if flag(inspect, "/Config/OpenStdin") {
        let message = "The container's standard input is held open; create it without --interactive.";
        found.push(Finding::blocker("stdin", message));
    }
    if flag(inspect, "/HostConfig/Init") {
        let message = "The container has Docker's init process, which CRIU cannot restore; create it without --init.";
        found.push(Finding::blocker("init", message));
    }
    if flag(inspect, "/HostConfig/Privileged") {
        found.push(Finding::blocker("privileged", "The container is privileged; create it without --privileged."));
    }
    for (pointer, what, option) in [
        ("/HostConfig/NetworkMode", "network", "--network"),
        ("/HostConfig/PidMode", "process", "--pid"),
        ("/HostConfig/IpcMode", "IPC", "--ipc"),
        ("/HostConfig/UTSMode", "UTS", "--uts"),
    ] {
        let mode = text(inspect, pointer);
        if mode == "host" {
            let message = format!("The container uses the host's {what} namespace; create it without {option} host.");
            found.push(Finding::blocker("host-namespaces", message));
        } else if mode.starts_with("container:") {
            let message = format!("The container shares the {what} namespace of another one ({option} {mode}).");
            found.push(Finding::blocker("host-namespaces", message));
        }
    }
    for device in list_of_objects(inspect, "/HostConfig/Devices") {
        let path = device.get("PathOnHost").and_then(Value::as_str).unwrap_or("?");
        found.push(Finding::blocker("devices", format!("The container has the device {path}.")));
    }
    if !list_of_objects(inspect, "/HostConfig/DeviceRequests").is_empty() {
        found.push(Finding::blocker("gpu", "The container has a GPU or another requested device."));
    }
    let runtime = text(inspect, "/HostConfig/Runtime");
    if !RUNTIMES.contains(&runtime) {
        let message = format!("The container runs under the runtime {runtime}; only runc's containers can be moved.");
        found.push(Finding::blocker("runtime", message));
    }
}

fn mounts(inspect: &Value, found: &mut Vec<Finding>) {
    for mount in list_of_objects(inspect, "/Mounts") {
        let word = |key: &str| mount.get(key).and_then(Value::as_str).unwrap_or("?");
        match word("Type") {
            // Whether a volume can move is seen when the container is looked at: its driver and its other users count. So
            // do the policy and what is on both nodes for a bind mount.
            "tmpfs" | "volume" | "bind" => {}
            other => {
                let message =
                    format!("The mount at {} is of the kind {other}, which is not moved.", word("Destination"));
                found.push(Finding::blocker("mounts", message));
            }
        }
    }
}

/// The folders of the host that are mounted in it.
pub fn bind_mounts(inspect: &Value) -> Vec<String> {
    let bound = list_of_objects(inspect, "/Mounts").iter().filter(|mount| text(mount, "/Type") == "bind");
    bound.map(|mount| text(mount, "/Source").to_owned()).collect()
}

fn flag(inspect: &Value, pointer: &str) -> bool {
    inspect.pointer(pointer).and_then(Value::as_bool).unwrap_or(false)
}

fn text<'a>(inspect: &'a Value, pointer: &str) -> &'a str {
    inspect.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(inspect: &'a Value, pointer: &str) -> Vec<&'a str> {
    inspect.pointer(pointer).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

fn list_of_objects<'a>(inspect: &'a Value, pointer: &str) -> &'a [Value] {
    inspect.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plain() -> Value {
        json!({
            "State": {"Status": "running", "Running": true, "Paused": false, "Restarting": false},
            "Config": {"Tty": false, "OpenStdin": false},
            "HostConfig": {"NetworkMode": "bridge", "PidMode": "", "IpcMode": "private", "UTSMode": "",
                "Privileged": false, "Devices": [], "DeviceRequests": null, "Runtime": "runc"},
            "Mounts": [], "ExecIDs": null,
        })
    }

    #[test]
    fn nothing_stands_in_the_way_of_a_plain_container() {
        assert_eq!(obstacles(&plain()), []);
    }

    #[test]
    fn every_obstacle_is_named_at_once() {
        let mut inspect = plain();
        inspect["State"] = json!({"Status": "exited", "Running": false});
        inspect["Config"] = json!({"Tty": true, "OpenStdin": true});
        inspect["HostConfig"] = json!({"NetworkMode": "host", "PidMode": "host", "IpcMode": "container:abc",
            "UTSMode": "host", "Privileged": true, "Devices": [{"PathOnHost": "/dev/fuse"}],
            "DeviceRequests": [{"Driver": "nvidia"}], "Runtime": "runsc"});
        inspect["Mounts"] = json!([
            {"Type": "volume", "Name": "data", "Destination": "/data"},
            {"Type": "bind", "Source": "/srv", "Destination": "/srv"},
            {"Type": "tmpfs", "Destination": "/scratch"},
        ]);
        inspect["ExecIDs"] = json!(["a"]);
        let found = obstacles(&inspect);
        let words = ["exited", "exec", "TTY", "standard input", "privileged", "network", "process", "IPC", "UTS"];
        for word in words.into_iter().chain(["/dev/fuse", "GPU", "runsc"]) {
            assert!(found.iter().any(|obstacle| obstacle.message.contains(word)), "{word}: {found:#?}");
        }
        assert_eq!(found.len(), 12);
    }

    #[test]
    fn paused_and_restarting_are_told_apart() {
        let mut inspect = plain();
        inspect["State"]["Paused"] = json!(true);
        assert!(obstacles(&inspect)[0].message.contains("paused"));
        assert!(lasting_obstacles(&inspect).is_empty(), "it will be unpaused");
        inspect["State"]["Restarting"] = json!(true);
        assert!(obstacles(&inspect)[0].message.contains("restarting"));
    }

    #[test]
    fn a_health_check_is_no_session() {
        let mut inspect = plain();
        inspect["ExecIDs"] = json!(["a"]);
        inspect["Config"]["Healthcheck"] = json!({"Test": ["CMD", "true"]});
        assert!(obstacles(&inspect).is_empty());
    }
}
