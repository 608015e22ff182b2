//! CRIU: there, not known to be broken, and content with this kernel.

use super::Check;
use crate::tools::{Version, ask, criu_version};

const INSTALL: &str = "apt-get install criu (Debian 13 or newer has a good one)";

/// All checks of this family.
pub(super) async fn checks() -> Vec<Check> {
    let Some(version) = criu_version().await else {
        return vec![Check::fail("CRIU", "not installed", INSTALL)];
    };
    vec![judge(&version), self_check().await]
}

fn judge(version: &Version) -> Check {
    if version.at_least([3, 18, 0]) {
        return Check::ok("CRIU", version.to_string());
    }
    let reason = if version.numbers == [3, 17, 1] {
        "is known to die on kernels from 6.3 on (\"Unexpected rt vDSO area bounds\")"
    } else {
        "is too old"
    };
    Check::fail("CRIU", format!("{version} {reason}; 3.18 is the least"), INSTALL)
}

async fn self_check() -> Check {
    const NAME: &str = "criu check";
    match ask("criu", &["check"]).await {
        Some(said) if said.success => Check::ok(NAME, "CRIU likes this kernel"),
        Some(said) => {
            let complaint = said.text.lines().find(|line| line.contains("Error") || line.contains("Warn"));
            let complaint = complaint.or_else(|| said.text.lines().next()).unwrap_or("no reason given").trim();
            Check::fail(NAME, complaint, "run `criu check` as root; it names the kernel feature that is missing")
        }
        None => Check::fail(NAME, "does not come back", "run `criu check` as root to see where it hangs"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn versions() {
        let status = |text: &str| judge(&Version::parse(text).expect("a version")).status;
        assert_eq!(status("3.17.1"), Status::Fail);
        assert_eq!(status("3.15"), Status::Fail);
        assert_eq!(status("3.18"), Status::Ok);
        assert_eq!(status("4.2.1"), Status::Ok);
    }
}
