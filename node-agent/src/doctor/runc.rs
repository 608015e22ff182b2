//! runc: there, the one Docker uses, and free of a known hole.

use super::Check;
use crate::runtime::observe::Daemon;
use crate::tools::{Version, runc_version};

/// All checks of this family.
pub(super) async fn checks(daemon: Option<&Daemon>) -> Vec<Check> {
    let mut checks = Vec::new();
    match runc_version().await {
        Some(version) => checks.push(judge(&version)),
        None => checks.push(Check::fail("runc", "not installed", "apt-get install runc")),
    }
    if let Some(daemon) = daemon
        && !matches!(daemon.default_runtime.as_str(), "runc" | "fog")
    {
        checks.push(Check::warn(
            "default runtime",
            format!("Docker starts containers with {:?}: those cannot be moved", daemon.default_runtime),
            "set \"default-runtime\": \"runc\" in Docker's daemon.json, or create containers with --runtime runc",
        ));
    }
    checks
}

fn judge(version: &Version) -> Check {
    let fixed = version.at_least([1, 4, 4]) || (version.at_least([1, 3, 7]) && !version.at_least([1, 4, 0]));
    if fixed {
        return Check::ok("runc", version.to_string());
    }
    Check::warn(
        "runc",
        format!(
            "{version} has CVE-2026-119101 (a crafted image restores into a host mount); Fogshift authenticates every \
             image before runc reads it"
        ),
        "upgrade runc to 1.3.7, 1.4.4 or newer (apt-get install --only-upgrade runc)",
    )
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn versions() {
        let status = |text: &str| judge(&Version::parse(text).expect("a version")).status;
        for vulnerable in ["1.1.15+ds1", "1.3.6+ds1", "1.4.0", "1.4.3", "1.0.0-rc93"] {
            assert_eq!(status(vulnerable), Status::Warn, "{vulnerable}");
        }
        for fixed in ["1.3.7", "1.3.9", "1.4.4", "1.5.0", "2.0.0"] {
            assert_eq!(status(fixed), Status::Ok, "{fixed}");
        }
    }
}
