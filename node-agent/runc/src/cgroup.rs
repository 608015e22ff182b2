//! Where the restored tasks belong on cgroup v2.
//!
//! CRIU's images name the cgroup that the container had on its old node. runc 1.1 tells CRIU the new one on cgroup v1
//! only; without it the tasks would come back in a cgroup that Docker knows nothing of, and neither limits nor
//! `docker pause` would reach them. Newer versions of runc say the same as we do.

use serde_json::Value;

/// The line for CRIU's configuration file.
pub(crate) fn root_option(config: &Value, systemd: bool) -> Option<String> {
    let path = config.pointer("/linux/cgroupsPath")?.as_str()?;
    let path = if systemd { scope(path)? } else { path.starts_with('/').then(|| path.to_owned())? };
    // Nothing before the colon is how CRIU calls the unified hierarchy.
    Some(format!("cgroup-root :{path}\n"))
}

/// Whether this node has cgroup v2 alone.
pub(crate) fn is_unified() -> bool {
    std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// systemd's path for `slice:prefix:name`: a slice `a-b.slice` lies in `a.slice`.
fn scope(path: &str) -> Option<String> {
    let [slice, prefix, name] = path.split(':').collect::<Vec<_>>().try_into().ok()?;
    let slice = if slice.is_empty() { "system.slice" } else { slice };
    let stem = slice.strip_suffix(".slice")?;
    let mut folders = String::new();
    if stem != "-" {
        let ends = stem.match_indices('-').map(|(at, _)| at).chain([stem.len()]);
        for end in ends {
            folders.push_str(&format!("/{}.slice", &stem[..end]));
        }
    }
    let unit = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
    Some(format!("{folders}/{unit}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_of_both_drivers() {
        let option = |path: &str, systemd| root_option(&json!({"linux": {"cgroupsPath": path}}), systemd);
        assert_eq!(option("/docker/abc", false).as_deref(), Some("cgroup-root :/docker/abc\n"));
        assert_eq!(option("relative", false), None);
        let scope = "cgroup-root :/system.slice/docker-abc.scope\n";
        assert_eq!(option("system.slice:docker:abc", true).as_deref(), Some(scope));
        let nested = "cgroup-root :/a.slice/a-b.slice/docker-abc.scope\n";
        assert_eq!(option("a-b.slice:docker:abc", true).as_deref(), Some(nested));
        assert_eq!(option("no-slice", true), None);
        assert_eq!(root_option(&json!({}), false), None);
    }
}
