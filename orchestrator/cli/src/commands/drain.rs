//! `fogctl cordon`, `uncordon`, `drain`

use std::time::{Duration, Instant};

use fog_api::client::Client;
use fog_api::node::Node;

use super::plan;
use crate::arguments::Drain;
use crate::exit::{Exit, Failure};
use crate::session::Session;

const LOOK: Duration = Duration::from_secs(1);

pub(super) async fn cordon(session: &Session, node: &str, dry_run: bool) -> Result<Exit, Failure> {
    if dry_run {
        return try_out(session, node, "cordon", "would be cordoned: nothing new would come to it").await;
    }
    let node = session.writer()?.cordon(node).await?;
    say(session, &node, "is cordoned: nothing new comes to it")
}

pub(super) async fn uncordon(session: &Session, node: &str, dry_run: bool) -> Result<Exit, Failure> {
    if dry_run {
        return try_out(session, node, "uncordon", "would be used again").await;
    }
    let node = session.writer()?.uncordon(node).await?;
    say(session, &node, "is used again")
}

async fn try_out(session: &Session, node: &str, order: &str, what: &str) -> Result<Exit, Failure> {
    let node = session.writer()?.try_order(node, order).await?;
    say(session, &node, what)
}

pub(super) async fn run(session: &Session, asked: &Drain) -> Result<Exit, Failure> {
    if asked.dry_run {
        return try_out(session, &asked.node, "drain", "would be drained; fogctl plan says where things would go then")
            .await;
    }
    let client = session.writer()?;
    let node = client.drain(&asked.node).await?;
    if !asked.wait && asked.deadline.is_none() {
        return say(session, &node, "is being drained: what can move leaves it, nothing new comes");
    }
    let deadline = Instant::now() + asked.deadline.unwrap_or(asked.timeout);
    let mut held: Vec<String> = Vec::new();
    loop {
        let now: Vec<String> =
            client.workloads(Some(&asked.node)).await?.items.into_iter().map(|workload| workload.name).collect();
        for gone in held.iter().filter(|name| !now.contains(name)) {
            eprintln!("{gone} has left {}", asked.node);
        }
        if now.is_empty() {
            let node = client.node(&asked.node).await?;
            return say(session, &node, "is empty and cordoned");
        }
        held = now;
        let stays = stays(&client, &asked.node).await?;
        let nothing_moves = client.migrations(&Default::default()).await?.items.iter().all(|m| m.phase.is_over());
        let all_stay = nothing_moves && held.iter().all(|name| stays.iter().any(|(stays, _)| stays == name));
        if all_stay || Instant::now() >= deadline {
            let exit = if all_stay { Exit::Failed } else { Exit::TimedOut };
            let mut failure = Failure::new(exit, format!("{} is not empty; {} stays", asked.node, held.join(", ")));
            for (_, why) in stays {
                failure = failure.hint(why);
            }
            return Err(failure.hint(format!("It goes on being drained; fogctl uncordon {} ends that.", asked.node)));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What stays on a node, and why.
async fn stays(client: &Client, node: &str) -> Result<Vec<(String, String)>, Failure> {
    let plan = plan::live(client).await?;
    let of_node = plan.not_moved.into_iter().filter(|stays| stays.node.as_str() == node);
    Ok(of_node.map(|stays| (stays.workload.to_string(), stays.reason)).collect())
}

fn say(session: &Session, node: &Node, what: &str) -> Result<Exit, Failure> {
    session.result(node, |_| format!("{} {what}\n", node.name))?;
    Ok(Exit::Done)
}
