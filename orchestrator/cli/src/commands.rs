//! One command a file.

mod answer;
mod audit;
mod cancel;
mod completion;
pub(crate) mod config;
mod decisions;
mod doctor;
mod drain;
mod events;
mod explain;
mod man;
mod migrate;
mod migration_resolve;
mod migrations;
mod nodes;
mod offline;
mod plan;
mod policy;
mod policy_edit;
mod policy_test;
mod preflight;
mod progress;
mod resolve;
mod support_bundle;
mod top;
mod version;
mod workloads;

use crate::arguments::{Command, MigrationCommand, PolicyCommand};
use crate::exit::{Exit, Failure};
use crate::session::Session;

/// Carries a command out.
pub(crate) async fn run(session: &Session, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Nodes => nodes::run(session).await,
        Command::Top { once, every } => top::run(session, once, every).await,
        Command::Doctor { node, all } => doctor::run(session, node.as_deref(), all).await,
        Command::SupportBundle(asked) => support_bundle::run(session, &asked).await,
        Command::Workloads { node } => workloads::run(session, node.as_deref()).await,
        Command::Migrations { workload, limit } => migrations::run(session, workload, limit).await,
        Command::Decisions { limit } => decisions::run(session, limit).await,
        Command::Policy { command: None } => policy::run(session).await,
        Command::Policy { command: Some(PolicyCommand::Check { file }) } => policy::check(session, &file),
        Command::Policy { command: Some(PolicyCommand::Test { folder, policy }) } => {
            policy_test::run(session, &folder, policy.as_deref())
        }
        Command::Policy { command: Some(PolicyCommand::Get { version }) } => policy_edit::get(session, version).await,
        Command::Policy { command: Some(PolicyCommand::Set { file, note, replaces, dry_run }) } => {
            policy_edit::set(session, &file, note, replaces, dry_run).await
        }
        Command::Policy { command: Some(PolicyCommand::Diff { version, against }) } => {
            policy_edit::diff(session, version, against).await
        }
        Command::Policy { command: Some(PolicyCommand::History) } => policy_edit::history(session).await,
        Command::Policy { command: Some(PolicyCommand::Rollback { version, note, dry_run }) } => {
            policy_edit::rollback(session, version, note, dry_run).await
        }
        Command::Plan(plan) => plan::run(session, &plan).await,
        Command::Rebalance { dry_run } => plan::rebalance(session, dry_run).await,
        Command::Approve { decision, dry_run } => answer::approve(session, &decision, dry_run).await,
        Command::Dismiss { decision, dry_run } => answer::dismiss(session, &decision, dry_run).await,
        Command::Preflight(asked) => preflight::run(session, &asked).await,
        Command::Migrate(migrate) => migrate::run(session, migrate).await,
        Command::Explain { migration } => explain::run(session, &migration).await,
        Command::Cordon { node, dry_run } => drain::cordon(session, &node, dry_run).await,
        Command::Uncordon { node, dry_run } => drain::uncordon(session, &node, dry_run).await,
        Command::Drain(asked) => drain::run(session, &asked).await,
        Command::Cancel { migration, dry_run } => cancel::run(session, &migration, dry_run).await,
        Command::Migration { command: MigrationCommand::Resolve(asked) } => {
            migration_resolve::run(session, &asked).await
        }
        Command::Events(asked) => events::run(session, asked).await,
        Command::Audit { limit } => audit::run(session, limit).await,
        Command::Config => config::run(session),
        Command::Man { folder } => man::run(&folder),
        Command::Completion { shell } => completion::run(shell),
        Command::Version => version::run(session).await,
    }
}
