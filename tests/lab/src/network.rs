//! The network between the nodes: a switch (a bridge in its own network namespace) with one port a node.
//!
//! The bridge is kept out of the machine's own namespace, so that the machine's firewall (Docker's `FORWARD DROP`, say)
//! cannot drop the nodes' traffic, and so that deleting a namespace deletes all that is in it. One veth pair, the uplink,
//! gives the machine the subnet's first address; there the orchestrator listens.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::command::{run, run_line};
use crate::wait::wait_until;

const SWITCH: &str = "switch";
const NETNS_DIRECTORY: &str = "/run/netns";

/// The names of an instance's network objects.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    instance: String,
    subnet: [u8; 2],
}

impl Network {
    pub(crate) fn new(instance: &str, subnet: [u8; 2]) -> Network {
        Network { instance: instance.to_owned(), subnet }
    }

    /// `.` occurs in no instance or node name, so no instance's namespaces look like another's.
    fn netns(&self, name: &str) -> String {
        format!("fog.{}.{name}", self.instance)
    }

    fn switch(&self) -> String {
        self.netns(&format!(".{SWITCH}"))
    }

    pub(crate) fn netns_path(&self, node: &str) -> PathBuf {
        PathBuf::from(NETNS_DIRECTORY).join(self.netns(node))
    }

    pub(crate) fn switch_path(&self) -> PathBuf {
        PathBuf::from(NETNS_DIRECTORY).join(self.switch())
    }

    /// The machine's end of the uplink.
    fn uplink(&self) -> String {
        format!("fog-{:02x}{:02x}", self.subnet[0], self.subnet[1])
    }

    fn address(&self, index: u8) -> String {
        format!("10.{}.{}.{index}", self.subnet[0], self.subnet[1])
    }

    /// The switch's TAP or veth towards a node.
    pub(crate) fn port(index: u8) -> String {
        format!("port{index}")
    }

    /// The node's end of an emulated link, before it moves into the node.
    pub(crate) fn host_tap(index: u8) -> String {
        format!("host{index}")
    }

    /// Creates the switch and the uplink, which also takes the subnet.
    pub(crate) fn create_switch(&self) -> Result<()> {
        let (switch, uplink) = (self.switch(), self.uplink());
        run_line(&format!("ip netns add {switch}"))?;
        run_line(&format!("ip -n {switch} link set lo up"))?;
        run_line(&format!("ip -n {switch} link add switch type bridge mcast_snooping 0"))?;
        run_line(&format!("ip -n {switch} link set switch up"))?;
        run_line(&format!("ip link add {uplink} type veth peer name uplink netns {switch}"))?;
        run_line(&format!("ip -n {switch} link set uplink master switch up"))?;
        run_line(&format!("ip address add {}/24 dev {uplink}", self.address(1)))?;
        run_line(&format!("ip link set {uplink} up"))?;
        Ok(())
    }

    /// Creates a node's namespace with a plain link.
    pub(crate) fn create_node(&self, node: &str, index: u8) -> Result<()> {
        let (switch, netns, port) = (self.switch(), self.netns(node), Network::port(index));
        run_line(&format!("ip netns add {netns}"))?;
        run_line(&format!("ip -n {switch} link add {port} type veth peer name eth0 netns {netns}"))?;
        self.configure_node(node, index)
    }

    /// Creates a node's namespace with the link whose two TAPs the emulator makes in the switch's namespace.
    pub(crate) fn create_emulated_node(&self, node: &str, index: u8) -> Result<()> {
        let (switch, netns, tap) = (self.switch(), self.netns(node), Network::host_tap(index));
        run_line(&format!("ip netns add {netns}"))?;
        for device in [&tap, &Network::port(index)] {
            wait_until(Duration::from_secs(5), &format!("the link emulator of node {node}"), || {
                Ok(run_line(&format!("ip -n {switch} link show {device}")).ok())
            })?;
        }
        run_line(&format!("ip -n {switch} link set {tap} netns {netns} name eth0"))?;
        self.configure_node(node, index)
    }

    fn configure_node(&self, node: &str, index: u8) -> Result<()> {
        let (switch, netns, port) = (self.switch(), self.netns(node), Network::port(index));
        let mac = format!("02:f0:{:02x}:{:02x}:00:{index:02x}", self.subnet[0], self.subnet[1]);
        run_line(&format!("ip -n {switch} link set {port} master switch up"))?;
        run_line(&format!("ip -n {netns} link set eth0 address {mac}"))?;
        run_line(&format!("ip -n {netns} link set eth0 up"))?;
        run_line(&format!("ip -n {netns} link set lo up"))?;
        run_line(&format!("ip -n {netns} address add {}/24 dev eth0", self.address(index)))?;
        run_line(&format!("ip -n {netns} route add default via {}", self.address(1)))?;
        Ok(())
    }

    /// Sets or lifts the rate limit of a node's link, in each direction, while it runs.
    pub(crate) fn set_rate(&self, node: &str, index: u8, bits_per_second: Option<u64>) -> Result<()> {
        for (netns, device) in [(self.netns(node), "eth0".to_owned()), (self.switch(), Network::port(index))] {
            match bits_per_second {
                Some(rate) => {
                    let burst = (rate / 8 / 100).max(16 * 1024);
                    run_line(&format!(
                        "tc -n {netns} qdisc replace dev {device} root tbf rate {rate}bit burst {burst} latency 100ms"
                    ))?;
                }
                None => {
                    let shown = run_line(&format!("tc -n {netns} qdisc show dev {device} root"))?;
                    if shown.contains("tbf") {
                        run_line(&format!("tc -n {netns} qdisc del dev {device} root"))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Unplugs (`false`) or plugs in (`true`) a node's cable at the switch.
    pub(crate) fn set_port(&self, index: u8, up: bool) -> Result<()> {
        let state = if up { "up" } else { "down" };
        run_line(&format!("ip -n {} link set {} {state}", self.switch(), Network::port(index))).map(drop)
    }

    /// Deletes every network object of the instance that is there; finding none is fine.
    pub(crate) fn delete_all(instance: &str) -> Result<()> {
        let prefix = format!("fog.{instance}.");
        let names: Vec<String> = fs::read_dir(NETNS_DIRECTORY)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.starts_with(&prefix))
            .collect();
        for name in names {
            // A namespace's devices vanish some time after it; the uplink's other end should be gone on return.
            let _ = run("ip", &["-n", &name, "link", "del", "uplink"]);
            run("ip", &["netns", "del", &name])?;
        }
        Ok(())
    }
}

/// Picks a 10.x.y.0/24 that nothing on this machine uses; the caller holds the lock of the labs.
pub(crate) fn free_subnet() -> Result<[u8; 2]> {
    let taken = run_line("ip -4 -o address show")? + &run_line("ip -4 route show table all")?;
    for second in 88..=127 {
        for third in 0..=255 {
            if is_free(&taken, second, third) {
                return Ok([second, third]);
            }
        }
    }
    bail!("no free subnet between 10.88.0.0/24 and 10.127.255.0/24: end some labs with `fog-lab down`")
}

/// Whether no address or route in `ip`'s output lies in 10.second.third.0/24 or covers it.
fn is_free(taken: &str, second: u8, third: u8) -> bool {
    let wanted = u32::from_be_bytes([10, second, third, 0]);
    !taken.split_whitespace().filter_map(parse_prefix).any(|(address, length)| {
        let mask = u32::MAX.checked_shl(32 - length.min(24)).unwrap_or(0);
        length > 0 && address & mask == wanted & mask
    })
}

fn parse_prefix(word: &str) -> Option<(u32, u32)> {
    let (address, length) = word.split_once('/').unwrap_or((word, "32"));
    let address: std::net::Ipv4Addr = address.parse().ok()?;
    Some((u32::from(address), length.parse().ok().filter(|length| *length <= 32)?))
}

/// A TCP port that is free now.
pub(crate) fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").context("cannot find a free TCP port")?;
    Ok(listener.local_addr().context("cannot find a free TCP port")?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_in_use_are_avoided() {
        let taken = "4: fog0 inet 10.88.0.1/24 brd 10.88.0.255 scope global fog0\n\
                     default via 192.168.0.1 dev eth0\n10.96.0.0/12 dev vpn\n0.0.0.0/0 dev x";
        assert!(!is_free(taken, 88, 0));
        assert!(is_free(taken, 88, 1));
        assert!(!is_free(taken, 100, 3));
        assert!(is_free(taken, 120, 3));
    }
}
