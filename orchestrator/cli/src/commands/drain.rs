//! `fogctl cordon`, `uncordon`, `drain`

use std::time::{Duration, Instant};

use fog_api::client::Client;
use fog_api::migration::Migration;
use fog_api::node::Node;
use fog_api::workload::Workload;

use super::plan;
use super::progress::Line;
use crate::arguments::Drain;
use crate::exit::{Exit, Failure};
use crate::render::units;
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
    let began = Instant::now();
    let deadline = began + asked.deadline.unwrap_or(asked.timeout);
    let mut held: Vec<String> = Vec::new();
    let mut line = Line::new(&format!("draining {}", asked.node));
    let mut gone = 0;
    loop {
        let workloads = client.workloads(Some(&asked.node)).await?.items;
        let now: Vec<String> = workloads.iter().map(|workload| workload.name.clone()).collect();
        for name in held.iter().filter(|name| !now.contains(name)) {
            gone += 1;
            line.keep(&format!("{name} has left {}", asked.node));
        }
        if now.is_empty() {
            drop(line);
            let node = client.node(&asked.node).await?;
            return say(session, &node, "is empty and cordoned");
        }
        held = now;
        let stays = stays(&client, &asked.node).await?;
        let migrations = client.migrations(&Default::default()).await?.items;
        let nothing_moves = migrations.iter().all(|migration| migration.phase.is_over());
        line.say(&so_far(gone, &workloads, &migrations, began.elapsed()));
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

/// How many have left, how fast the others go, and how long it may still take: by what is left to send at that rate, or, where
/// nothing travels at the moment, by what the others took.
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
fn so_far(gone: usize, left: &[Workload], migrations: &[Migration], elapsed: Duration) -> String {
    let moving = |workload: &Workload| {
        migrations.iter().find(|migration| Some(migration.id) == workload.migration && !migration.phase.is_over())
    };
    let progress = |workload: &Workload| moving(workload).and_then(|migration| migration.progress.as_ref());
    let under_way = left.iter().filter(|workload| moving(workload).is_some()).count();
    let rate: f64 = left.iter().filter_map(|workload| progress(workload)?.rate_bytes_per_s).sum();
    let bytes =
        |workload: &Workload| progress(workload).and_then(|one| one.remaining_bytes).unwrap_or(workload.memory_bytes);
    let bytes: u64 = left.iter().map(bytes).sum();
    let mut words = format!("{gone} of {} left, {under_way} moving", gone + left.len());
    let rest_s = if rate > 0.0 {
        words.push_str(&format!(", {}, {} to go", units::rate(rate), units::bytes(bytes)));
        Some(bytes as f64 / rate)
    } else {
        (gone > 0).then(|| elapsed.as_secs_f64() / gone as f64 * left.len() as f64)
    };
    if let Some(rest_s) = rest_s {
        words.push_str(&format!(", about {} left", units::milliseconds(rest_s * 1000.0)));
    }
    words
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

#[cfg(test)]
mod tests {
    use fog_api::migration::{Phase, StageProgress};
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn workload(name: &str, migration: Option<Uuid>) -> Workload {
        serde_json::from_value(json!({
            "name": name, "node": "A", "epoch": 1, "state": "running", "container": "c", "image": "i", "cpus": 0.1,
            "memory_bytes": 64u64 << 20, "cpus_limit": null, "memory_limit_bytes": null, "labels": {}, "obstacles": [],
            "migration": migration, "moved_at": null, "seen_at": "2026-01-01T00:00:00Z"
        }))
        .expect("a workload")
    }

    #[test]
    fn the_rest_is_estimated_by_what_travels_or_by_what_the_others_took() {
        let left = [workload("one", Some(Uuid::nil())), workload("two", None)];
        let mut moving: Migration = serde_json::from_value(json!({
            "id": Uuid::nil(), "workload": "one", "source": "A", "destination": "B", "strategy": "pre-copy", "asked_by": "policy",
            "decision": Uuid::nil(), "phase": "moving", "cause": null, "created_at": "2026-01-01T00:00:00Z", "finished_at": null,
            "phases": [], "answered": {}, "stages_ms": {}, "checkpoint_bytes": null, "sent_bytes": null, "downtime_ms": null,
            "progress": null
        }))
        .expect("a migration");
        let said = |migrations: &[Migration], gone| so_far(gone, &left, migrations, Duration::from_secs(6));
        assert_eq!(said(&[], 0), "0 of 2 left, 0 moving");
        assert_eq!(said(&[moving.clone()], 3), "3 of 5 left, 1 moving, about 4.0 s left");
        moving.progress = Some(StageProgress {
            stage: fog_api::agent::Stage::PreCopy,
            bytes: 48 << 20,
            bytes_total: Some(64 << 20),
            remaining_bytes: Some(16 << 20),
            round: Some(1),
            rate_bytes_per_s: Some(f64::from(8 << 20)),
            eta_s: None,
        });
        assert_eq!(said(&[moving.clone()], 3), "3 of 5 left, 1 moving, 8.0 MiB/s, 80 MiB to go, about 10 s left");
        moving.phase = Phase::Done;
        assert_eq!(said(&[moving], 3), "3 of 5 left, 0 moving, about 4.0 s left");
    }
}
