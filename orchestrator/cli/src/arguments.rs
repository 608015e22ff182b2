//! What can be written on the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use fog_api::migration::Strategy;

const AFTER_HELP: &str = "\
Exit status:
  0    done
  1    failed: refused, rolled back, not found
  2    the command line or a setting is wrong
  3    the orchestrator cannot be reached
  4    not authorised: the token is missing or wrong
  5    timed out waiting; what was begun goes on
  130  interrupted; what was begun goes on

A flag goes before its environment variable. Colours: only on a terminal, and never with NO_COLOR set.";

/// See where containers run in the fog, move them, and ask why they moved.
#[derive(Debug, Parser)]
#[command(name = "fogctl", version, after_help = AFTER_HELP, infer_subcommands = true, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection and output")]
pub(crate) struct Global {
    /// The orchestrator's address.
    #[arg(long, global = true, value_name = "URL", env = "FOG_URL", default_value = "http://127.0.0.1:7700")]
    pub(crate) url: String,
    /// The orchestrator's token, needed to change anything. A file is safer: other users see a command line.
    #[arg(long, global = true, value_name = "TOKEN", env = "FOG_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// A file that holds the token, for example the file `token` of the orchestrator's data directory.
    #[arg(long, global = true, value_name = "FILE", env = "FOG_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// For people, or exactly the API's JSON.
    #[arg(long, short, global = true, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Tables and sentences.
    Table,
    /// The API's JSON and nothing else.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The nodes: how busy, how healthy, how many containers.
    Nodes,
    /// The cluster at a glance, refreshed until Ctrl-C; once, where the output is no terminal or JSON.
    Top {
        /// Show it once.
        #[arg(long)]
        once: bool,
        /// The pause between two looks, for example `500ms` or `5s`.
        #[arg(long, value_name = "TIME", value_parser = duration, default_value = "2s")]
        every: Duration,
    },
    /// The containers that Fogshift knows, and where they run.
    Workloads {
        /// Only those on this node.
        #[arg(long, value_name = "NODE")]
        node: Option<String>,
    },
    /// Migrations, newest first.
    Migrations {
        /// Only this workload's.
        #[arg(long, value_name = "NAME")]
        workload: Option<String>,
        /// At most so many.
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Decisions, newest first: what was to move where, and why.
    Decisions {
        /// At most so many.
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// The policy in force: read it, change it, go back; `policy check` and `policy test` try one without a server.
    Policy {
        #[command(subcommand)]
        command: Option<PolicyCommand>,
    },
    /// What the planner would do with a snapshot, without a server.
    Plan(Plan),
    /// Even the cluster out once: nodes that are much busier than the rest give something away, whatever the policy's mode.
    Rebalance {
        /// Only say what would move, and why.
        #[arg(long)]
        dry_run: bool,
    },
    /// Approve what the planner proposes (autonomy `confirm`): it is carried out.
    Approve {
        /// The workload's name, the decision's id or the beginning of it.
        #[arg(value_name = "DECISION")]
        decision: String,
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
    },
    /// Dismiss what the planner proposes: its workload is left alone for a while.
    Dismiss {
        /// The workload's name, the decision's id or the beginning of it.
        #[arg(value_name = "DECISION")]
        decision: String,
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
    },
    /// Every reason against moving a container to a node, before anything is touched; status 1 if there is one.
    Preflight(Preflight),
    /// Move a running container to another node.
    Migrate(Migrate),
    /// Why a migration happened and how it went: every candidate, every factor, every phase.
    Explain {
        /// A migration's id or the beginning of it, a workload's name (its latest migration), or `last`.
        #[arg(value_name = "MIGRATION")]
        migration: String,
    },
    /// Let nothing new come to a node.
    Cordon {
        /// The node's name.
        #[arg(value_name = "NODE")]
        node: String,
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
    },
    /// Use a node again, and stop draining it.
    Uncordon {
        /// The node's name.
        #[arg(value_name = "NODE")]
        node: String,
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
    },
    /// Empty a node: everything that can move leaves it, nothing new comes.
    Drain(Drain),
    /// Stop a migration and roll it back; possible until its commit.
    Cancel {
        /// A migration's id or the beginning of it, a workload's name (its latest migration), or `last`.
        #[arg(value_name = "MIGRATION")]
        migration: String,
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
    },
    /// What only a person can decide about a migration.
    Migration {
        #[command(subcommand)]
        command: MigrationCommand,
    },
    /// What changes, as it happens.
    Events(Events),
    /// Who changed what, when, and how it was answered; newest first.
    Audit {
        /// At most so many.
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// What stands in the way of working well, at the orchestrator and on every node, and what to do about it; status 1 if
    /// something fails.
    Doctor {
        /// Only this node.
        #[arg(value_name = "NODE")]
        node: Option<String>,
        /// Show also what is as it should be.
        #[arg(long)]
        all: bool,
    },
    /// Collect what somebody needs who is to help: state, logs, configuration, metrics and recent migrations, without secrets.
    SupportBundle(Bundle),
    /// Where each setting of fogctl comes from: flag, environment, or default.
    Config,
    /// Write the manual pages, one a command, for example: fogctl man /usr/local/share/man/man1
    Man {
        /// The folder; it is made if it is missing.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// A completion script for a shell, for example: fogctl completion bash > /etc/bash_completion.d/fogctl
    Completion {
        /// The shell.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// The version of fogctl, and whether the orchestrator answers.
    Version,
}

#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// The cluster at one moment, as JSON; `-` reads it from the standard input. The running cluster as the orchestrator
    /// sees it now, under its policy, when it is left out.
    #[arg(long, value_name = "FILE")]
    pub(crate) snapshot: Option<PathBuf>,
    /// The policy, as TOML; the built-in default when it is left out.
    #[arg(long, value_name = "FILE", requires = "snapshot")]
    pub(crate) policy: Option<PathBuf>,
    /// The time to plan at, for example 2026-11-22T10:00:00Z; the snapshot's when it is left out.
    #[arg(long, value_name = "TIME", requires = "snapshot")]
    pub(crate) at: Option<jiff::Timestamp>,
}

#[derive(Debug, Args)]
pub(crate) struct Drain {
    /// The node's name.
    #[arg(value_name = "NODE")]
    pub(crate) node: String,
    /// Wait until it is empty, or say what stays and why.
    #[arg(long, short)]
    pub(crate) wait: bool,
    /// How long to wait at most, for example `90s`, `10m` or `1h`.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10m", requires = "wait")]
    pub(crate) timeout: Duration,
    /// Wait like this, but no longer than that: the same as `--wait --timeout TIME`.
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with_all = ["wait", "timeout"])]
    pub(crate) deadline: Option<Duration>,
    /// Only say what would be done.
    #[arg(long, conflicts_with_all = ["wait", "deadline"])]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MigrationCommand {
    /// Say which end keeps a workload whose migration cannot end by itself: it failed after its commit, or its destination does
    /// not answer any more.
    Resolve(Resolve),
}

#[derive(Debug, Args)]
pub(crate) struct Resolve {
    /// A migration's id or the beginning of it, a workload's name (its latest migration), or `last`.
    #[arg(value_name = "MIGRATION")]
    pub(crate) migration: String,
    /// `source`: its frozen copy goes on, as of the freeze. `destination`: its copy stays, started anew if it does not run, and the
    /// source's frozen copy is removed.
    #[arg(long, value_enum)]
    pub(crate) keep: KeepName,
    /// The destination is out of the world for good and nothing runs there: do not wait until it has given up its copy.
    #[arg(long)]
    pub(crate) destination_is_gone: bool,
    /// Only say whether that is possible.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeepName {
    /// The node that had it.
    Source,
    /// The node that was to have it.
    Destination,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Say what is wrong with a policy file: line, column, field, and the nearest correct name.
    Check {
        /// The policy, as TOML.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Run your own scenarios: folders with a snapshot.json and an expected.json.
    #[command(after_help = TEST_HELP)]
    Test {
        /// A folder of scenario folders, or one scenario folder.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// The policy to test, instead of a scenario's own policy.toml, that of DIR, or the built-in default.
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
    },
    /// The policy in force as it was written, for example: fogctl policy get > policy.toml
    Get {
        /// An earlier version.
        #[arg(long, value_name = "N")]
        version: Option<u64>,
    },
    /// Put a policy into force.
    Set {
        /// The policy, as TOML; `-` reads it from the standard input.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Why, for the history.
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
        /// Only in the place of this version: if another one is in force by then, nothing changes. Left out: of the one that is
        /// in force when fogctl looks.
        #[arg(long, value_name = "N")]
        replaces: Option<u64>,
        /// Only say what would change; status 1 if the policy is not valid.
        #[arg(long)]
        dry_run: bool,
    },
    /// What differs between a version and the one before, or another one.
    Diff {
        /// The version; the one in force when it is left out.
        #[arg(value_name = "N")]
        version: Option<u64>,
        /// Compare with this one.
        #[arg(long, value_name = "N")]
        against: Option<u64>,
    },
    /// Every policy that was in force, newest first: when, by whom, why.
    History,
    /// Put an earlier version into force again.
    Rollback {
        /// The version; it gets a new number.
        #[arg(value_name = "N")]
        version: u64,
        /// Why, for the history.
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
    },
}

const TEST_HELP: &str = "\
expected.json says what must be planned, in any order, and who must stay for which reason:
  {\"actions\": [{\"type\": \"migrate\", \"workload\": \"looper\", \"to\": \"C\"}], \"stay\": {\"db\": \"pinned\"}}
Every action must be named; fields of an action that are left out may be anything, and so may who stays.";

#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Go on for ever, also over lost connections: nothing is missed and nothing repeated, unless the orchestrator does not
    /// keep it any more, which is said. Without it, print what was decided and moved so far.
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Only events of these types, for example `migration,decision`.
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',', requires = "follow")]
    pub(crate) types: Vec<String>,
    /// Only what is about this node.
    #[arg(long, value_name = "NODE", requires = "follow")]
    pub(crate) node: Option<String>,
    /// Only what is about this workload.
    #[arg(long, value_name = "NAME", requires = "follow")]
    pub(crate) workload: Option<String>,
    /// Begin behind this event's number instead of now.
    #[arg(long, value_name = "N", requires = "follow")]
    pub(crate) after: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Bundle {
    /// The archive (.tar.gz); fogshift-support-TIME.tar.gz here, when it is left out. An existing file is not written over.
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Also the end of this log file; may be repeated.
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Vec<PathBuf>,
    /// Also this configuration file, besides those in /etc/fogshift; may be repeated.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Vec<PathBuf>,
    /// At most so many nodes' own reports.
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(crate) nodes: usize,
    /// Leave this machine's journal out.
    #[arg(long)]
    pub(crate) no_journal: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Preflight {
    /// The container's name.
    #[arg(value_name = "NAME")]
    pub(crate) workload: String,
    /// Where it would go.
    #[arg(long, value_name = "NODE")]
    pub(crate) to: String,
}

#[derive(Debug, Args)]
pub(crate) struct Migrate {
    /// The container's name.
    #[arg(value_name = "NAME")]
    pub(crate) workload: String,
    /// Where to; the orchestrator chooses when it is left out.
    #[arg(long, value_name = "NODE")]
    pub(crate) to: Option<String>,
    /// How the memory travels.
    #[arg(long, value_enum, default_value_t = StrategyName::Auto)]
    pub(crate) strategy: StrategyName,
    /// Wait until it is over, showing its progress.
    #[arg(long, short)]
    pub(crate) wait: bool,
    /// How long to wait at most, for example `90s`, `10m` or `1h`.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration, requires = "wait")]
    pub(crate) timeout: Duration,
    /// Only say where it would go, or why it can't.
    #[arg(long, conflicts_with = "wait")]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StrategyName {
    /// The orchestrator chooses.
    Auto,
    /// Freeze, move everything, run.
    StopAndCopy,
    /// Copy while it runs, then freeze for the rest.
    PreCopy,
    /// Freeze, move the little state, run, memory follows.
    PostCopy,
    /// Pre-copy, then post-copy.
    Hybrid,
}

impl From<StrategyName> for Strategy {
    fn from(name: StrategyName) -> Self {
        match name {
            StrategyName::Auto => Self::Auto,
            StrategyName::StopAndCopy => Self::StopAndCopy,
            StrategyName::PreCopy => Self::PreCopy,
            StrategyName::PostCopy => Self::PostCopy,
            StrategyName::Hybrid => Self::Hybrid,
        }
    }
}

/// `90s`, `10m`, `1h`, `500ms`; longer than nothing and at most 30 days.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit.trim() {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err("expected a number with its unit, for example 90s, 10m or 1h".to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| "expected a number with its unit, for example 90s".to_owned())?;
    let seconds = number * seconds;
    if seconds > 0.0 && seconds <= 30.0 * 86_400.0 {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("expected more than nothing and at most 720h".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_definition_holds_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn migrate_with_everything() {
        let arguments =
            parse("fogctl migrate looper --to C --strategy stop-and-copy --wait --timeout 90s --output json").unwrap();
        assert_eq!(arguments.global.output, Output::Json);
        let Command::Migrate(migrate) = arguments.command else { panic!("not migrate") };
        assert_eq!((migrate.workload.as_str(), migrate.to.as_deref()), ("looper", Some("C")));
        assert_eq!((migrate.strategy, migrate.wait), (StrategyName::StopAndCopy, true));
        assert_eq!(migrate.timeout, Duration::from_secs(90));
    }

    #[test]
    fn global_settings_may_stand_before_or_behind_the_command() {
        for line in ["fogctl --url http://fog:1 nodes", "fogctl nodes --url http://fog:1"] {
            assert_eq!(parse(line).unwrap().global.url, "http://fog:1");
        }
    }

    #[test]
    fn what_makes_no_sense_is_a_usage_error() {
        for line in [
            "fogctl",
            "fogctl migrate",
            "fogctl migrate looper --timeout 5s",
            "fogctl migrate looper --wait --timeout 5",
            "fogctl migrate looper --wait --timeout 0s",
            "fogctl migrate looper --strategy teleport",
            "fogctl migrations --limit 0",
            "fogctl migrations --limit 1001",
            "fogctl nodes --output xml",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("1.5h"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert!(duration("m").is_err() && duration("-5s").is_err() && duration("1e9h").is_err());
    }
}
