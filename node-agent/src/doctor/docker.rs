//! Docker: a daemon that answers, recent enough, and with the restoring runtime registered.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::Check;
use super::fix::{DaemonConfig, RUNTIME};
use crate::config::Config;
use crate::runtime::observe::Daemon;
use crate::tools::{Version, ask};

const FIX: &str = "fog-agent doctor --fix";

/// All checks of this family.
pub(super) async fn checks(config: &Config, daemon: &Result<Daemon, String>) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut program = config.fog_runc.clone();
    match daemon {
        Ok(daemon) => {
            checks.push(judge(&daemon.version));
            checks.extend(confinement(&daemon.security));
            checks.push(registered(daemon, &config.docker_config));
            if let Some(path) = daemon.runtimes.get(RUNTIME).filter(|path| !path.is_empty()) {
                program = PathBuf::from(path);
            }
        }
        Err(reason) => {
            checks.push(Check::fail(
                "Docker",
                reason.trim_end_matches('.').to_owned(),
                "apt-get install docker.io docker-cli, then systemctl enable --now docker",
            ));
        }
    }
    checks.push(in_file(&DaemonConfig::locate(&config.docker_config)));
    checks.push(executable(&program).await);
    checks
}

fn judge(version: &str) -> Check {
    let fix = "install Docker 25 or newer (Debian 13 has 26)";
    match Version::parse(version) {
        Some(parsed) if !parsed.at_least([25, 0, 0]) => {
            Check::fail("Docker", format!("{version} is too old: it cannot tell a runtime what to restore"), fix)
        }
        Some(parsed) if parsed.at_least([28, 0, 0]) && !parsed.at_least([29, 8, 0]) => {
            Check::ok("Docker", format!("{version} (cannot restore by itself since 28.0; fog-runc does it)"))
        }
        Some(_) => Check::ok("Docker", version),
        None => Check::warn("Docker", format!("{version:?} is not a version this program understands"), fix),
    }
}

fn confinement(security: &[String]) -> Option<Check> {
    let has = |name: &str| security.iter().any(|option| option.split(',').any(|part| part == name));
    if has("name=rootless") {
        return Some(Check::fail("Docker mode", "rootless: CRIU needs root", "run Docker as root on this node"));
    }
    has("name=userns").then(|| {
        Check::fail(
            "Docker mode",
            "userns-remap: the ids in a memory image would not fit on other nodes",
            "remove \"userns-remap\" from Docker's daemon.json on this node",
        )
    })
}

fn registered(daemon: &Daemon, file: &Path) -> Check {
    const NAME: &str = "runtime fog";
    match daemon.runtimes.get(RUNTIME) {
        Some(path) => Check::ok(NAME, format!("registered in the running dockerd ({path})")),
        None => Check::fail(
            NAME,
            "the running dockerd does not know it: no container can be restored here",
            format!("{FIX} (adds it to {} and reloads dockerd; no container stops)", file.display()),
        ),
    }
}

fn in_file(config: &Result<DaemonConfig, String>) -> Check {
    const NAME: &str = "daemon.json";
    let config = match config {
        Ok(config) => config,
        Err(reason) => return Check::warn(NAME, reason, "start dockerd with options that this program can read"),
    };
    let path = config.path.display();
    match config.read() {
        Ok(Some(content)) if super::fix::runtime_path(&content).is_some() => {
            Check::ok(NAME, format!("{path} registers fog"))
        }
        Ok(_) if config.runtime_by_flag => Check::ok(NAME, "dockerd's command line registers fog"),
        Ok(_) => Check::warn(NAME, format!("{path} does not register fog: gone when dockerd restarts"), FIX),
        Err(reason) => Check::warn(NAME, reason, format!("correct {path} by hand: dockerd would not start again")),
    }
}

async fn executable(program: &Path) -> Check {
    const NAME: &str = "fog-runc";
    let shown = program.display();
    let install = format!("install fog-runc as {shown}, mode 0755");
    let Ok(metadata) = std::fs::metadata(program) else {
        return Check::fail(NAME, format!("{shown} is not there"), install);
    };
    if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
        return Check::fail(NAME, format!("{shown} is not executable"), install);
    }
    match ask(&program.to_string_lossy(), &["--version"]).await {
        Some(said) if said.success => Check::ok(NAME, shown.to_string()),
        Some(said) => {
            let first = said.text.lines().next().unwrap_or("no message").to_owned();
            Check::fail(NAME, format!("{shown} --version fails: {first}"), install)
        }
        None => Check::fail(NAME, format!("{shown} cannot be run"), install),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(judge("20.10.24+dfsg1").status, Status::Fail);
        assert_eq!(judge("26.1.5+dfsg1"), Check::ok("Docker", "26.1.5+dfsg1"));
        let recent = judge("28.5.2+dfsg4");
        assert_eq!(recent.status, Status::Ok);
        assert!(recent.found.contains("fog-runc"));
        assert_eq!(judge("dev").status, Status::Warn);
    }

    #[test]
    fn confined_daemons() {
        assert_eq!(confinement(&["name=seccomp,profile=builtin".to_owned(), "name=cgroupns".to_owned()]), None);
        assert!(confinement(&["name=rootless".to_owned()]).is_some());
        assert!(confinement(&["name=userns".to_owned()]).is_some());
    }
}
