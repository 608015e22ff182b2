//! Whether a container's addresses can follow it to another node, and its connections with them.

use serde_json::{Map, Value, json};

use fog_api::migration::Connections;

use super::failure::Cause;
use super::inspect::init_of;
use super::{Inner, blocking};
use crate::runtime::specification;

/// Where `inspect` notes the container's networks as the source has them. Docker does not know this field.
const NETWORKS: &str = "FogshiftNetworks";

/// Where `inspect` notes how many connections reach out of the container. Docker does not know this field.
const CONNECTIONS: &str = "FogshiftConnections";

/// A network with this label and the value `follows` is one and the same on every node that has it, whatever its driver.
const LABEL: &str = "fogshift.address";

/// Drivers whose containers are on the network of the nodes themselves.
const SHARED: [&str; 2] = ["macvlan", "ipvlan"];

/// Source: notes what the destination needs to judge.
pub(super) async fn note(inner: &Inner, inspect: &mut Value) -> Result<(), Cause> {
    let mut networks = Map::new();
    for name in specification::networks(inspect) {
        let network = inner.docker.network(&name).await.map_err(Cause::docker("look at its networks"))?;
        networks.insert(name, network.as_ref().map(essence).unwrap_or_default());
    }
    inspect[NETWORKS] = Value::Object(networks);
    inspect[CONNECTIONS] = json!(outward(init_of(inspect)).await?);
    Ok(())
}

/// How many TCP connections lead out of the container. What cannot be read counts as none: the dump will tell.
pub(super) async fn outward(init: Option<i32>) -> Result<usize, Cause> {
    let Some(pid) = init.and_then(|init| u32::try_from(init).ok()) else { return Ok(0) };
    blocking(move || {
        let connections = fog_netns::connections(pid).unwrap_or_default();
        connections.iter().filter(|connection| !connection.is_internal()).count()
    })
    .await
}

/// What the destination says.
pub(super) struct Judged {
    /// Networks on which the address follows.
    pub(super) following: Vec<String>,
    /// What becomes of connections.
    pub(super) connections: Connections,
    /// Addresses that somebody else has here.
    pub(super) obstacles: Vec<String>,
}

/// Destination: where the container keeps its addresses.
pub(super) async fn judge(inner: &Inner, inspect: &Value) -> Result<Judged, Cause> {
    let node = &inner.config.node;
    let (mut following, mut reasons, mut obstacles) = (Vec::new(), Vec::new(), Vec::new());
    let networks = specification::networks(inspect);
    for name in &networks {
        let theirs = inspect.get(NETWORKS).and_then(|networks| networks.get(name)).cloned().unwrap_or_default();
        let network = inner.docker.network(name).await.map_err(Cause::docker("look at its networks"))?;
        let Some(network) = network else {
            reasons.push(format!("{node} has no network {name}"));
            continue;
        };
        match follows(name, &theirs, &essence(&network), node) {
            Ok(()) => {
                following.push(name.clone());
                obstacles.extend(taken(name, inspect, &network, node));
            }
            Err(reason) => reasons.push(reason),
        }
    }
    let open = inspect.get(CONNECTIONS).and_then(Value::as_u64).and_then(|count| u32::try_from(count).ok());
    let kept = reasons.is_empty();
    let reason = match (kept, networks.is_empty()) {
        (true, true) => "It has no network.".to_owned(),
        (true, false) => format!("Its address follows it on {}.", following.join(", ")),
        (false, _) => format!("Its address cannot follow it: {}.", reasons.join("; ")),
    };
    Ok(Judged { following, connections: Connections { open: open.unwrap_or(0), kept, reason }, obstacles })
}

/// What makes a network the same as another node's.
fn essence(network: &Value) -> Value {
    let configs = network.pointer("/IPAM/Config").and_then(Value::as_array).into_iter().flatten();
    let mut subnets: Vec<&str> = configs.filter_map(|config| config.get("Subnet")?.as_str()).collect();
    subnets.sort_unstable();
    json!({
        "Id": network.get("Id"), "Driver": network.get("Driver"), "Scope": network.get("Scope"), "Subnets": subnets,
        "Mode": network.pointer("/Options/ipvlan_mode").or_else(|| network.pointer("/Options/macvlan_mode")),
        "Label": network.get("Labels").and_then(|labels| labels.get(LABEL)),
    })
}

fn follows(name: &str, theirs: &Value, ours: &Value, node: &str) -> Result<(), String> {
    let word = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (driver, other) = (word(theirs, "Driver"), word(ours, "Driver"));
    if driver != other {
        return Err(format!("network {name} has the driver {driver} here and {other} on {node}"));
    }
    let spans = word(ours, "Scope") != "local" && theirs.get("Id") == ours.get("Id");
    let labelled = [theirs, ours].iter().all(|network| word(network, "Label") == "follows");
    // Of ipvlan's modes only the first shares the nodes' link; of macvlan's all do.
    let shared = SHARED.contains(&driver.as_str()) && !matches!(word(ours, "Mode").as_str(), "l3" | "l3s");
    if !(spans || labelled || shared) {
        return Err(format!("network {name} ({driver}) ends at the node"));
    }
    let subnets = |value: &Value| value.get("Subnets").cloned().unwrap_or_default();
    if subnets(theirs) != subnets(ours) {
        let (theirs, ours) = (subnets(theirs), subnets(ours));
        return Err(format!("network {name} has the subnets {theirs} at the source and {ours} on {node}"));
    }
    Ok(())
}

/// The container here that has the address already.
fn taken(name: &str, inspect: &Value, network: &Value, node: &str) -> Option<String> {
    let endpoint = inspect.pointer("/NetworkSettings/Networks")?.get(name)?;
    let address = endpoint.get("IPAddress")?.as_str().filter(|address| !address.is_empty())?;
    let holder = network.get("Containers")?.as_object()?.values().find(|container| {
        let theirs = container.get("IPv4Address").and_then(Value::as_str).unwrap_or_default();
        theirs.split('/').next() == Some(address)
    })?;
    let holder = holder.get("Name").and_then(Value::as_str).unwrap_or("another container");
    Some(format!("The address {address} on network {name} is taken on {node} by {holder}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(driver: &str, subnet: &str) -> Value {
        essence(&json!({"Id": "x", "Driver": driver, "Scope": "local", "IPAM": {"Config": [{"Subnet": subnet}]}}))
    }

    #[test]
    fn an_address_follows_where_the_network_is_one() {
        let lan = network("macvlan", "10.0.0.0/24");
        assert_eq!(follows("lan", &lan, &lan, "B"), Ok(()));
        let elsewhere = network("macvlan", "10.0.1.0/24");
        assert!(follows("lan", &lan, &elsewhere, "B").is_err_and(|reason| reason.contains("subnets")));
        let bridge = network("bridge", "172.17.0.0/16");
        assert!(follows("bridge", &bridge, &bridge, "B").is_err_and(|reason| reason.contains("ends at the node")));
        assert!(follows("lan", &lan, &bridge, "B").is_err_and(|reason| reason.contains("driver")));
        let mut stretched = bridge;
        stretched["Label"] = json!("follows");
        assert_eq!(follows("wide", &stretched, &stretched, "B"), Ok(()));
        let mut routed = network("ipvlan", "10.0.0.0/24");
        routed["Mode"] = json!("l3");
        assert!(follows("routed", &routed, &routed, "B").is_err());
    }

    #[test]
    fn an_address_in_use_is_named() {
        let inspect = json!({"NetworkSettings": {"Networks": {"lan": {"IPAddress": "10.0.0.9"}}}});
        let with = |address: &str| json!({"Containers": {"1": {"Name": "db", "IPv4Address": address}}});
        assert!(taken("lan", &inspect, &with("10.0.0.9/24"), "B").is_some_and(|text| text.contains("by db")));
        assert_eq!(taken("lan", &inspect, &with("10.0.0.90/24"), "B"), None);
    }
}
