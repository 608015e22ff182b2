//! Long-running programs of a lab, inside a node or beside the nodes: started detached with a PID file that also holds
//! the start time, so that a signal never hits a stranger with the same number.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::command::{last_lines, succeed};
use crate::node::{Node, clean_environment, joining};
use crate::state::ProcessId;
use crate::wait::wait_until;

/// Detaches, records its PID and start time, and becomes the program.
const DETACH: &str = r#"
pidfile=$1; log=$2; shift 2
exec < /dev/null >> "$log" 2>&1
echo "$$ $(cut -d ' ' -f 22 "/proc/$$/stat")" > "$pidfile.new" && mv "$pidfile.new" "$pidfile" && exec "$@"
"#;
/// Linux counts start times in hundredths of a second everywhere (`USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;
const RECORDED: Duration = Duration::from_secs(20);

/// Where a daemon lives.
pub(crate) enum Place<'a> {
    Node(&'a Node),
    /// On the machine itself, as a member of the given cgroups; PID file and log in `directory`.
    Outside {
        directory: &'a Path,
        join: Vec<PathBuf>,
    },
}

pub(crate) struct Daemon<'a> {
    pub(crate) name: String,
    pub(crate) place: Place<'a>,
}

impl Daemon<'_> {
    /// The PID file as the machine sees it.
    fn pid_file(&self) -> Result<PathBuf> {
        match &self.place {
            Place::Node(node) => node.path(&format!("/run/fog-lab/{}.pid", self.name)),
            Place::Outside { directory, .. } => Ok(directory.join(format!("{}.pid", self.name))),
        }
    }

    fn proc(&self) -> Result<PathBuf> {
        match &self.place {
            Place::Node(node) => node.path("/proc"),
            Place::Outside { .. } => Ok(PathBuf::from("/proc")),
        }
    }

    /// Who wrote the PID file, as the machine sees it: the file has the time since the node's own boot.
    fn recorded(&self) -> Result<Option<ProcessId>> {
        let ahead = match &self.place {
            Place::Node(node) => node.state.booted_earlier.as_secs() * TICKS_PER_SECOND,
            Place::Outside { .. } => 0,
        };
        let text = fs::read_to_string(self.pid_file()?).unwrap_or_default();
        let mut words = text.split_whitespace();
        let pid = words.next().and_then(|word| word.parse().ok());
        let started = words.next().and_then(|word| word.parse::<u64>().ok()?.checked_sub(ahead));
        Ok(pid.zip(started).map(|(pid, started)| ProcessId { pid, started }))
    }

    fn running(&self) -> Result<Option<ProcessId>> {
        let proc = self.proc()?;
        Ok(self.recorded()?.filter(|process| process.is_alive(&proc)))
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running().is_ok_and(|process| process.is_some())
    }

    /// The log as the machine sees it; readable also after the node has ended.
    pub(crate) fn log_file(&self) -> PathBuf {
        match &self.place {
            Place::Node(node) => node.directory.join(format!("upper/var/log/{}.log", self.name)),
            Place::Outside { directory, .. } => directory.join(format!("{}.log", self.name)),
        }
    }

    pub(crate) fn last_log_lines(&self, count: usize) -> String {
        let path = self.log_file();
        match fs::read(&path) {
            Ok(text) => last_lines(&String::from_utf8_lossy(&text), count),
            Err(error) => format!("(cannot read {}: {error})", path.display()),
        }
    }

    /// Starts the program unless it runs already; returns when it is recorded, not when it is ready.
    pub(crate) fn start(&self, command: &[&str]) -> Result<()> {
        if self.is_running() {
            return Ok(());
        }
        let pid_file = self.pid_file()?;
        let _ = fs::remove_file(&pid_file);
        let detach = ["setsid", "--fork", "sh", "-c", DETACH, "fog-lab"];
        let mut starting: Command = match &self.place {
            Place::Node(node) => {
                let pid_inside = format!("/run/fog-lab/{}.pid", self.name);
                let log_inside = format!("/var/log/{}.log", self.name);
                let mut words: Vec<&str> = detach.to_vec();
                words.extend([pid_inside.as_str(), log_inside.as_str()]);
                words.extend(command);
                node.command(&words)?
            }
            Place::Outside { join, .. } => {
                let mut starting = joining(join);
                clean_environment(&mut starting);
                starting.args(detach).arg(&pid_file).arg(self.log_file()).args(command);
                starting
            }
        };
        let output = starting.stdin(Stdio::null()).output().context("cannot run /bin/sh")?;
        succeed(&format!("start {}", self.name), output)?;
        wait_until(RECORDED, &format!("{} to start", self.name), || Ok(self.recorded()?.map(drop)))
    }

    /// Waits until `ready` answers true; a daemon that ends meanwhile fails at once, with its last log lines.
    pub(crate) fn wait_ready(&self, deadline: Duration, ready: impl Fn() -> bool) -> Result<()> {
        wait_until(deadline, &format!("{} to be ready", self.name), || {
            if ready() {
                return Ok(Some(()));
            }
            self.running()?.with_context(|| format!("{} ended before it was ready", self.name))?;
            Ok(None)
        })
        .map_err(|error| anyhow!("{error}; its last log lines:\n{}", self.last_log_lines(15)))
    }

    /// Sends a signal if the daemon runs; returns whether it did.
    pub(crate) fn signal(&self, signal: Signal) -> Result<bool> {
        let Some(process) = self.running()? else { return Ok(false) };
        match &self.place {
            Place::Node(node) => {
                let number = signal.as_raw().to_string();
                // The process may end between the look and the signal.
                node.exec(&["kill", "-s", &number, &process.pid.to_string()])?;
            }
            Place::Outside { .. } => {
                let pid = Pid::from_raw(process.pid).context("the PID file holds no PID")?;
                if let Ok(handle) = pidfd_open(pid, PidfdFlags::empty())
                    && process.is_alive(Path::new("/proc"))
                {
                    let _ = pidfd_send_signal(&handle, signal);
                }
            }
        }
        Ok(true)
    }

    /// SIGKILL, and waits until the process is gone.
    pub(crate) fn kill(&self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.wait_gone(Duration::from_secs(10))
    }

    /// SIGTERM, then SIGKILL when the deadline passes.
    pub(crate) fn stop(&self, deadline: Duration) -> Result<()> {
        self.signal(Signal::TERM)?;
        self.wait_gone(deadline).or_else(|_| self.kill())
    }

    fn wait_gone(&self, deadline: Duration) -> Result<()> {
        wait_until(deadline, &format!("{} to end", self.name), || Ok(self.running()?.is_none().then_some(())))
    }
}
