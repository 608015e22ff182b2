//! Other limits for a container, in the words that Docker takes.

use bollard::models::ContainerUpdateBody;
use serde_json::Value;

/// What to send to `docker update`. `host` is the container's `HostConfig`: Docker refuses a limit in other words than the
/// ones it was created with, and memory above the limit of memory and swap together.
pub(super) fn update(host: &Value, cpus: Option<f64>, memory_bytes: Option<u64>) -> ContainerUpdateBody {
    let number = |name: &str| host.get(name).and_then(Value::as_i64).unwrap_or(0);
    let mut body = ContainerUpdateBody::default();
    if let Some(cpus) = cpus {
        if number("CpuQuota") > 0 {
            let period = if number("CpuPeriod") > 0 { number("CpuPeriod") } else { 100_000 };
            body.cpu_period = Some(period);
            body.cpu_quota = Some((cpus * period as f64).round() as i64);
        } else {
            body.nano_cpus = Some((cpus * 1e9).round() as i64);
        }
    }
    if let Some(bytes) = memory_bytes {
        let memory = i64::try_from(bytes).unwrap_or(i64::MAX);
        body.memory = Some(memory);
        let (old, both) = (number("Memory"), number("MemorySwap"));
        if both > 0 {
            // What it may swap stays the same.
            body.memory_swap = Some(memory.saturating_add((both - old).max(0)));
        }
    }
    body
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::update;

    #[test]
    fn limits_are_said_as_the_container_has_them() {
        let body = update(&json!({"NanoCpus": 250_000_000, "Memory": 64, "MemorySwap": 128}), Some(0.5), Some(100));
        assert_eq!((body.nano_cpus, body.cpu_quota), (Some(500_000_000), None));
        assert_eq!((body.memory, body.memory_swap), (Some(100), Some(164)));
        let body = update(&json!({"CpuQuota": 50_000, "CpuPeriod": 0, "MemorySwap": -1}), Some(0.75), Some(7));
        assert_eq!((body.cpu_quota, body.cpu_period, body.nano_cpus), (Some(75_000), Some(100_000), None));
        assert_eq!((body.memory, body.memory_swap), (Some(7), None));
    }
}
