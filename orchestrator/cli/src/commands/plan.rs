//! `fogctl plan`: what the planner would do now, or with a snapshot out of a file.

use fog_api::client::Client;
use fog_api::migration::Migration;
use fog_core::{Action, Plan, Policy};

use super::offline;
use crate::arguments;
use crate::exit::{Exit, Failure};
use crate::render::paint::Paint;
use crate::render::text::{clean, wrap};
use crate::session::Session;

const WIDTH: usize = 96;

pub(super) async fn run(session: &Session, asked: &arguments::Plan) -> Result<Exit, Failure> {
    let plan = match &asked.snapshot {
        None => live(&session.reader()?).await?,
        Some(file) => {
            let policy = asked.policy.as_deref().map_or_else(|| Ok(Policy::default()), offline::policy)?;
            let snapshot = offline::snapshot(file, &policy)?;
            fog_core::plan(&snapshot, &policy, asked.at.unwrap_or(snapshot.at))
        }
    };
    session.result(&plan, |paint| people(&plan, paint))?;
    Ok(Exit::Done)
}

/// Evens the cluster out once, or says what that would mean.
pub(super) async fn rebalance(session: &Session, dry_run: bool) -> Result<Exit, Failure> {
    if dry_run {
        let plan = read(session.reader()?.plan_in("balance").await?)?;
        session.result(&plan, |paint| people(&plan, paint))?;
        return Ok(Exit::Done);
    }
    let begun = session.writer()?.rebalance().await?;
    session.result(&begun, |_| {
        let line =
            |m: &Migration| format!("{}  {} → {}\n", clean(&m.workload), clean(&m.source), clean(&m.destination));
        if begun.items.is_empty() { "Nothing to do.\n".to_owned() } else { begun.items.iter().map(line).collect() }
    })?;
    Ok(Exit::Done)
}

/// What the orchestrator would do now.
pub(super) async fn live(client: &Client) -> Result<Plan, Failure> {
    read(client.plan().await?)
}

fn read(plan: serde_json::Value) -> Result<Plan, Failure> {
    serde_json::from_value(plan).map_err(|error| {
        Failure::new(Exit::Failed, format!("the orchestrator's plan cannot be read: {error}"))
            .hint("Use the same version of fogctl and fog-orchestrator.")
    })
}

fn people(plan: &Plan, paint: Paint) -> String {
    let mut out = String::new();
    let mut section = |title: &str, items: Vec<(String, &str)>| {
        if items.is_empty() {
            return;
        }
        out.push_str(&format!("{}\n", paint.head(title)));
        for (head, reason) in items {
            out.push_str(&format!("  {}\n    {}\n", clean(&head), wrap(reason, WIDTH, "    ")));
        }
    };
    section("To do", plan.actions.iter().map(action).collect());
    let stays = |stays: &'_ fog_core::NotMoved| format!("{} on {}", stays.workload, stays.node);
    section("Stays", plan.not_moved.iter().map(|one| (stays(one), one.reason.as_str())).collect());
    if out.is_empty() { "Nothing to do: no node is overloaded.\n".to_owned() } else { out }
}

/// What is done, and why.
fn action(action: &Action) -> (String, &str) {
    match action {
        Action::Migrate(migrate) => {
            let head = format!("{}  {} → {}  {}", migrate.workload, migrate.from, migrate.to, migrate.strategy);
            (head, migrate.reason.as_str())
        }
        Action::Resize(resize) => (format!("{} on {}  resize", resize.workload, resize.node), resize.reason.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_reads_what_moves_and_why() {
        let folder = "../../tests/scenarios/planner/thesis-near-beats-idle";
        let text = std::fs::read_to_string(format!("{}/{folder}/plan.json", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let plan: Plan = serde_json::from_str(&text).unwrap();
        let text = people(&plan, Paint::new(false));
        assert!(text.starts_with("To do\n  looper  A → C  stop-and-copy\n    A has been at 90 % CPU"), "{text}");
        let nothing = Plan { at: plan.at, actions: Vec::new(), not_moved: Vec::new() };
        assert_eq!(people(&nothing, Paint::new(false)), "Nothing to do: no node is overloaded.\n");
    }
}
