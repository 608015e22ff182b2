//! Network: bytes a second through the node's own interfaces.
//!
//! Docker's bridges and the host ends of its veth pairs are left out like loopback: a container's
//! traffic with the outside passes the uplink too, and would count three times.

use std::time::Instant;

use procfs::net::DeviceStatus;

/// Turns interface counters into rates.
#[derive(Debug, Default)]
pub(super) struct NetworkMeter {
    last: Option<(Instant, Traffic)>,
}

/// Bytes since boot, or a second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Traffic {
    /// Inwards.
    pub(super) received: f64,
    /// Outwards.
    pub(super) sent: f64,
}

impl NetworkMeter {
    /// Bytes a second since the last call, 0 at the first.
    pub(super) fn rates(&mut self, at: Instant) -> Traffic {
        procfs::net::dev_status()
            .map_or_else(|_| Traffic::default(), |interfaces| self.advance(at, interfaces.values()))
    }

    fn advance<'a>(&mut self, at: Instant, interfaces: impl Iterator<Item = &'a DeviceStatus>) -> Traffic {
        let now =
            interfaces.filter(|interface| is_uplink(&interface.name)).fold(Traffic::default(), |sum, interface| {
                Traffic {
                    received: sum.received + interface.recv_bytes as f64,
                    sent: sum.sent + interface.sent_bytes as f64,
                }
            });
        let Some((then, before)) = self.last.replace((at, now)) else { return Traffic::default() };
        let seconds = at.saturating_duration_since(then).as_secs_f64();
        if seconds == 0.0 {
            return Traffic::default();
        }
        // An interface that went away takes its counters with it.
        Traffic {
            received: (now.received - before.received).max(0.0) / seconds,
            sent: (now.sent - before.sent).max(0.0) / seconds,
        }
    }
}

fn is_uplink(name: &str) -> bool {
    let hexadecimal = |rest: &str, length: usize| rest.len() == length && rest.bytes().all(|b| b.is_ascii_hexdigit());
    let of_docker = name == "docker0"
        || name == "docker_gwbridge"
        || name.strip_prefix("br-").is_some_and(|rest| hexadecimal(rest, 12))
        || name.strip_prefix("veth").is_some_and(|rest| hexadecimal(rest, 7));
    name != "lo" && !of_docker
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use procfs::FromRead;
    use procfs::net::{DeviceStatus, InterfaceDeviceStatus};

    use super::*;

    fn interfaces(eth0: u64) -> Vec<DeviceStatus> {
        let text = format!(
            "Inter-|   Receive                                                |  Transmit\n \
             face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
             lo: 999999 1 0 0 0 0 0 0 999999 1 0 0 0 0 0 0\n  \
             eth0: {eth0} 1 0 0 0 0 0 0 1000 1 0 0 0 0 0 0\n\
             veth12ab34f: 500000 1 0 0 0 0 0 0 500000 1 0 0 0 0 0 0\n"
        );
        InterfaceDeviceStatus::from_read(text.as_bytes()).expect("parses").0.into_values().collect()
    }

    #[test]
    fn only_the_uplink_counts() {
        let mut meter = NetworkMeter::default();
        let start = Instant::now();
        assert_eq!(meter.advance(start, interfaces(1000).iter()), Traffic::default());
        let rates = meter.advance(start + Duration::from_secs(2), interfaces(5000).iter());
        assert_eq!(rates, Traffic { received: 2000.0, sent: 0.0 });
        let reset = meter.advance(start + Duration::from_secs(4), interfaces(0).iter());
        assert_eq!(reset.received, 0.0);
    }

    #[test]
    fn names() {
        for uplink in ["eth0", "br0", "br-lan", "wlan0", "veth-uplink", "enp3s0"] {
            assert!(is_uplink(uplink), "{uplink}");
        }
        for internal in ["lo", "docker0", "br-0123456789ab", "veth12ab34f"] {
            assert!(!is_uplink(internal), "{internal}");
        }
    }
}
