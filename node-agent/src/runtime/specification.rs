//! A container's own configuration, turned into the request that creates it again.
//!
//! What `docker inspect` says in `Config` and `HostConfig` is what `create` accepts, so both are
//! passed on as they are; only what belongs to the old place is changed.

use serde_json::{Map, Value, json};

/// The runtime that restores. Registered in daemon.json.
pub const RUNTIME: &str = "fog";

/// Where `inspect` notes how much memory the container used. Docker does not know this field.
pub const MEMORY: &str = "FogshiftMemoryBytes";

/// Where the destination notes the networks on which the container keeps its addresses. Docker does not know this field.
pub const FOLLOWING: &str = "FogshiftFollowing";

/// The body of `POST /containers/create`. `image` is how the image is called here.
pub fn create_body(inspect: &Value, image: &str) -> Value {
    let mut body = object(inspect.get("Config"));
    body.insert("Image".into(), json!(image));
    let mut host = object(inspect.get("HostConfig"));
    host.insert("Runtime".into(), json!(RUNTIME));
    host.insert("RestartPolicy".into(), json!({"Name": "no", "MaximumRetryCount": 0}));
    host.insert("ContainerIDFile".into(), json!(""));
    body.insert("HostConfig".into(), Value::Object(host));
    body.insert("NetworkingConfig".into(), json!({"EndpointsConfig": endpoints(inspect)}));
    Value::Object(body)
}

/// The restart policy as in `HostConfig.RestartPolicy`.
pub fn restart_policy(inspect: &Value) -> Value {
    inspect.pointer("/HostConfig/RestartPolicy").cloned().unwrap_or(Value::Null)
}

/// Whether a restart policy never restarts, so that there is nothing to save or give back.
pub fn never_restarts(policy: &Value) -> bool {
    matches!(policy.get("Name").and_then(Value::as_str), None | Some("" | "no"))
}

/// The networks the container is on, by name.
pub fn networks(inspect: &Value) -> Vec<String> {
    object(inspect.pointer("/NetworkSettings/Networks")).into_iter().map(|(name, _)| name).collect()
}

/// The ports it publishes on fixed host ports: address, port, protocol.
pub fn fixed_ports(inspect: &Value) -> Vec<(String, u16, String)> {
    let mut ports = Vec::new();
    for (port, bindings) in object(inspect.pointer("/HostConfig/PortBindings")) {
        let protocol = port.split_once('/').map_or("tcp", |(_, protocol)| protocol);
        for binding in bindings.as_array().into_iter().flatten() {
            let word = |key: &str| binding.get(key).and_then(Value::as_str).unwrap_or_default();
            if let Ok(number @ 1..) = word("HostPort").parse() {
                ports.push((word("HostIp").to_owned(), number, protocol.to_owned()));
            }
        }
    }
    ports
}

/// Each network with what the user asked for on it. What Docker chose by itself is left to the new place.
fn endpoints(inspect: &Value) -> Map<String, Value> {
    let id = inspect.get("Id").and_then(Value::as_str).unwrap_or_default();
    let configured_mac = inspect.pointer("/Config/MacAddress").and_then(Value::as_str).unwrap_or_default();
    let following = inspect.get(FOLLOWING).and_then(Value::as_array).into_iter().flatten();
    let following: Vec<_> = following.map(Value::as_str).collect();
    let mut endpoints = Map::new();
    for (name, network) in object(inspect.pointer("/NetworkSettings/Networks")) {
        let mut endpoint = Map::new();
        for key in ["IPAMConfig", "Links", "DriverOpts", "GwPriority"] {
            match network.get(key) {
                None | Some(Value::Null) => {}
                Some(value) => drop(endpoint.insert(key.into(), value.clone())),
            }
        }
        let aliases = network.get("Aliases").and_then(Value::as_array).into_iter().flatten();
        let aliases: Vec<_> = aliases.filter(|alias| !is_short_id(alias, id)).cloned().collect();
        if !aliases.is_empty() {
            endpoint.insert("Aliases".into(), Value::Array(aliases));
        }
        if !configured_mac.is_empty() {
            endpoint.insert("MacAddress".into(), json!(configured_mac));
        }
        if following.contains(&Some(name.as_str())) {
            keep_addresses(&mut endpoint, &network);
        }
        endpoints.insert(name, Value::Object(endpoint));
    }
    endpoints
}

/// What Docker chose by itself is asked for from now on.
fn keep_addresses(endpoint: &mut Map<String, Value>, network: &Value) {
    let chosen = |key: &str| network.get(key).and_then(Value::as_str).filter(|value| !value.is_empty());
    let ipam = endpoint.entry("IPAMConfig").or_insert_with(|| json!({}));
    for (wanted, given) in [("IPv4Address", "IPAddress"), ("IPv6Address", "GlobalIPv6Address")] {
        if let Some(address) = chosen(given) {
            ipam[wanted] = json!(address);
        }
    }
    if let Some(mac) = chosen("MacAddress") {
        endpoint.insert("MacAddress".into(), json!(mac));
    }
}

/// Docker lists the container's short id among the aliases; the new container has another one.
fn is_short_id(alias: &Value, id: &str) -> bool {
    alias.as_str().is_some_and(|alias| alias.len() == 12 && id.starts_with(alias))
}

fn object(value: Option<&Value>) -> Map<String, Value> {
    value.and_then(Value::as_object).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspect() -> Value {
        json!({
            "Id": "0123456789abcdef",
            "Config": {"Hostname": "0123456789ab", "Env": ["A=b"], "Cmd": ["sh"], "Image": "web:1", "Unknown": 7},
            "HostConfig": {
                "Runtime": "runc", "RestartPolicy": {"Name": "always", "MaximumRetryCount": 0},
                "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}], "53/udp": [{"HostPort": ""}]},
                "NanoCpus": 500, "AlsoUnknown": {"x": 1}, "ContainerIDFile": "/old/place",
            },
            "NetworkSettings": {"Networks": {
                "bridge": {"IPAMConfig": null, "Aliases": null, "IPAddress": "172.17.0.2", "MacAddress": "02:42:ac:11:00:02"},
                "shop": {"IPAMConfig": {"IPv4Address": "10.9.0.5"}, "Aliases": ["web", "0123456789ab"], "IPAddress": "10.9.0.5"},
            }},
        })
    }

    #[test]
    fn configuration_passes_through_unknown_fields_included() {
        let body = create_body(&inspect(), "sha256:1");
        assert_eq!(body["Hostname"], "0123456789ab");
        assert_eq!(body["Env"], json!(["A=b"]));
        assert_eq!(body["Unknown"], 7);
        assert_eq!(body["HostConfig"]["AlsoUnknown"], json!({"x": 1}));
        assert_eq!(body["HostConfig"]["NanoCpus"], 500);
    }

    #[test]
    fn what_belongs_to_the_old_place_is_changed() {
        let body = create_body(&inspect(), "sha256:1");
        assert_eq!(body["Image"], "sha256:1");
        assert_eq!(body["HostConfig"]["Runtime"], RUNTIME);
        assert_eq!(body["HostConfig"]["RestartPolicy"]["Name"], "no");
        assert_eq!(body["HostConfig"]["ContainerIDFile"], "");
    }

    #[test]
    fn networks_keep_what_the_user_asked_for() {
        let body = create_body(&inspect(), "sha256:1");
        let endpoints = &body["NetworkingConfig"]["EndpointsConfig"];
        assert_eq!(endpoints["bridge"], json!({}));
        assert_eq!(endpoints["shop"], json!({"IPAMConfig": {"IPv4Address": "10.9.0.5"}, "Aliases": ["web"]}));
        assert_eq!(networks(&inspect()), ["bridge", "shop"]);
    }

    #[test]
    fn addresses_follow_where_they_can() {
        let mut inspect = inspect();
        inspect[FOLLOWING] = json!(["bridge"]);
        let body = create_body(&inspect, "sha256:1");
        let endpoints = &body["NetworkingConfig"]["EndpointsConfig"];
        let kept = json!({"IPAMConfig": {"IPv4Address": "172.17.0.2"}, "MacAddress": "02:42:ac:11:00:02"});
        assert_eq!(endpoints["bridge"], kept);
        assert!(endpoints["shop"].get("MacAddress").is_none());
    }

    #[test]
    fn only_fixed_ports_must_be_free() {
        assert_eq!(fixed_ports(&inspect()), [(String::new(), 8080, "tcp".to_owned())]);
    }

    #[test]
    fn restart_policies() {
        assert!(!never_restarts(&restart_policy(&inspect())));
        assert!(never_restarts(&json!({"Name": "no"})));
        assert!(never_restarts(&Value::Null));
    }
}
