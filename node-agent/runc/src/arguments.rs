//! runc's command line, as far as it concerns us.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// runc's global options that take a value.
const GLOBAL_VALUES: &[&str] = &["log", "log-format", "root", "criu", "rootless"];

/// runc's global options that take none.
const GLOBAL_FLAGS: &[&str] = &["debug", "systemd-cgroup"];

/// The options of `create`, `start` and `delete` that take a value.
const VALUES: &[&str] = &["bundle", "b", "console-socket", "pidfd-socket", "pid-file", "preserve-fds"];

/// What runc is to do, where we may do it instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Create,
    Start,
    Delete,
}

/// A call that may concern us.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) verb: Verb,
    /// runc's global options, as they were given.
    pub(crate) global: Vec<OsString>,
    /// runc's log file, where Docker looks for an error's message.
    pub(crate) log: Option<PathBuf>,
    pub(crate) bundle: Option<PathBuf>,
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) no_pivot: bool,
    pub(crate) container: String,
}

impl Call {
    /// systemd makes the cgroups.
    pub(crate) fn systemd_cgroup(&self) -> bool {
        self.global.iter().any(|option| option == "--systemd-cgroup" || option == "-systemd-cgroup")
    }

    /// `None` for every call that is runc's alone, unknown options included.
    pub(crate) fn parse(arguments: &[OsString]) -> Option<Call> {
        let mut rest = arguments.iter();
        let mut global = Vec::new();
        let mut log = None;
        let verb = loop {
            let argument = rest.next()?;
            let Some((name, value)) = option(argument) else { break argument.to_str()? };
            global.push(argument.clone());
            if GLOBAL_VALUES.contains(&name) {
                let value = match value {
                    Some(value) => OsString::from(value),
                    None => {
                        let value = rest.next()?;
                        global.push(value.clone());
                        value.clone()
                    }
                };
                if name == "log" {
                    log = Some(PathBuf::from(value));
                }
            } else if !GLOBAL_FLAGS.contains(&name) {
                return None;
            }
        };
        let verb = match verb {
            "create" => Verb::Create,
            "start" => Verb::Start,
            "delete" => Verb::Delete,
            _ => return None,
        };
        let (mut bundle, mut pid_file, mut no_pivot, mut container) = (None, None, false, None);
        while let Some(argument) = rest.next() {
            let Some((name, value)) = option(argument) else {
                container = argument.to_str().map(str::to_owned);
                continue;
            };
            if VALUES.contains(&name) {
                let value = match value {
                    Some(value) => OsString::from(value),
                    None => rest.next()?.clone(),
                };
                match name {
                    "bundle" | "b" => bundle = Some(PathBuf::from(value)),
                    "pid-file" => pid_file = Some(PathBuf::from(value)),
                    _ => {}
                }
            } else if name == "no-pivot" {
                no_pivot = true;
            }
        }
        Some(Call { verb, global, log, bundle, pid_file, no_pivot, container: container? })
    }
}

/// An option's name and, where it is in the same word, its value.
fn option(argument: &OsStr) -> Option<(&str, Option<&str>)> {
    let text = argument.to_str()?;
    let name = text.strip_prefix("--").or_else(|| text.strip_prefix('-')).filter(|name| !name.is_empty())?;
    Some(name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<Call> {
        Call::parse(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn dockers_create() {
        let call = parse(
            "--root /run/docker/runtime-fog/moby --log /b/log.json --log-format json --systemd-cgroup create \
             --bundle /b --pid-file /b/init.pid --no-pivot abc",
        );
        let call = call.expect("a call");
        assert_eq!(call.verb, Verb::Create);
        assert_eq!(call.container, "abc");
        assert_eq!(call.log, Some("/b/log.json".into()));
        assert_eq!(call.bundle, Some("/b".into()));
        assert_eq!(call.pid_file, Some("/b/init.pid".into()));
        assert!(call.no_pivot && call.systemd_cgroup());
        assert_eq!(call.global.len(), 7);
    }

    #[test]
    fn values_may_follow_an_equals_sign() {
        let call = parse("--log=/l --root=/r create -b=/b --pid-file=/p abc").expect("a call");
        assert_eq!((call.log, call.bundle), (Some("/l".into()), Some("/b".into())));
        assert_eq!(call.global, ["--log=/l", "--root=/r"]);
    }

    #[test]
    fn delete_with_force() {
        let call = parse("--root /r delete --force abc").expect("a call");
        assert_eq!((call.verb, call.container.as_str()), (Verb::Delete, "abc"));
    }

    #[test]
    fn what_is_runcs_alone() {
        for line in ["--version", "features", "--root /r kill abc 9", "--new-option create abc", "create", "", "--root"]
        {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
