//! `fogctl approve`, `dismiss`: a person's word on what the planner proposes.

use fog_api::client::Client;
use fog_api::decision::{Decision, Kind};
use uuid::Uuid;

use crate::exit::{Exit, Failure};
use crate::render::text::{clean, short};
use crate::session::Session;

/// As far back as a list goes.
const NEWEST: u32 = 1000;

pub(super) async fn approve(session: &Session, meant: &str, dry_run: bool) -> Result<Exit, Failure> {
    let client = session.writer()?;
    if dry_run {
        return try_out(session, &client, meant, "approve", "Would be approved").await;
    }
    let decision = client.approve(find(&client, meant).await?).await?;
    session.result(&decision, |_| match decision.migration {
        Some(id) => format!("{}; how it goes: fogctl explain {}\n", what(&decision, "Approved"), short(id)),
        None => format!("{}\n", what(&decision, "Approved")),
    })?;
    Ok(Exit::Done)
}

pub(super) async fn dismiss(session: &Session, meant: &str, dry_run: bool) -> Result<Exit, Failure> {
    let client = session.writer()?;
    if dry_run {
        return try_out(session, &client, meant, "dismiss", "Would be dismissed").await;
    }
    let decision = client.dismiss(find(&client, meant).await?).await?;
    session.result(&decision, |_| format!("{}; it is left alone for a while\n", what(&decision, "Dismissed")))?;
    Ok(Exit::Done)
}

async fn try_out(session: &Session, client: &Client, meant: &str, answer: &str, word: &str) -> Result<Exit, Failure> {
    let decision = client.try_answer(find(client, meant).await?, answer).await?;
    session.result(&decision, |_| format!("{}\n", what(&decision, word)))?;
    Ok(Exit::Done)
}

fn what(decision: &Decision, word: &str) -> String {
    let (workload, source) = (clean(&decision.workload), clean(&decision.source));
    match (&decision.destination, decision.kind) {
        (Some(to), _) => format!("{word}: {workload} from {source} to {}", clean(to)),
        (None, Kind::Resize) => format!("{word}: other limits for {workload} on {source}"),
        (None, Kind::Migrate) => format!("{word}: {workload} on {source}"),
    }
}

/// By id, by the beginning of an id, or by the workload's name (its open proposal).
async fn find(client: &Client, meant: &str) -> Result<Uuid, Failure> {
    if let Ok(id) = meant.parse() {
        return Ok(id);
    }
    let open = client.decisions(Some(NEWEST)).await?.items.into_iter().filter(|decision| decision.status.is_open());
    among(open.collect(), meant)
}

fn among(open: Vec<Decision>, meant: &str) -> Result<Uuid, Failure> {
    if let Some(decision) = open.iter().find(|decision| decision.workload == meant) {
        return Ok(decision.id);
    }
    let prefix = meant.to_ascii_lowercase();
    let mut matching =
        open.iter().filter(|decision| !prefix.is_empty() && decision.id.to_string().starts_with(&prefix));
    match (matching.next(), matching.next()) {
        (Some(one), None) => Ok(one.id),
        (Some(_), Some(_)) => Err(Failure::new(Exit::Failed, format!("several open decisions begin with {meant}"))),
        (None, _) => Err(Failure::new(Exit::Failed, format!("no open decision is meant by {:?}", clean(meant)))
            .hint("Give a workload's name, an id or the beginning of one; fogctl decisions lists them.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proposal_is_found_by_name_and_by_the_beginning_of_its_id() {
        let decision = |id: &str, workload: &str| -> Decision {
            serde_json::from_value(serde_json::json!({
                "id": id, "at": "2026-01-01T00:00:00Z", "asked_by": "policy", "workload": workload, "source": "A",
                "destination": "B", "reason": "", "policy_version": 1, "migration": null, "candidates": [],
                "status": "proposed",
            }))
            .unwrap()
        };
        let (first, second) = ("019aaf31-5c2e-7000-8000-000000000000", "019aaf31-5c2f-7000-8000-000000000000");
        let open = || vec![decision(first, "web"), decision(second, "db")];
        assert_eq!(among(open(), "db").unwrap().to_string(), second);
        assert_eq!(among(open(), "019AAF31-5c2e").unwrap().to_string(), first);
        assert!(among(open(), "019").unwrap_err().what.contains("several"));
        assert!(among(open(), "nobody").unwrap_err().what.contains("no open decision"));
    }
}
