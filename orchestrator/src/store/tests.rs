use fog_api::agent::{Hello, NodeFacts, PROTOCOL, Sample, Specification, Ticket};
use fog_api::decision::Decision;
use fog_core::migration::{Event, Step};
use jiff::Timestamp;
use uuid::Uuid;

use super::*;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

async fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("fogshift.db")).await.unwrap();
    (dir, store)
}

fn new_migration(epoch: u64) -> NewMigration {
    let (id, decision) = (Uuid::now_v7(), Uuid::now_v7());
    NewMigration {
        record: serde_json::from_value(serde_json::json!({
            "id": id, "workload": "web", "source": "A", "destination": "B", "strategy": "stop-and-copy",
            "asked_by": "user", "decision": decision, "phase": "inspecting", "cause": null, "progress": null,
            "created_at": NOW, "finished_at": null, "phases": [], "answered": {}, "stages_ms": {},
            "checkpoint_bytes": null, "sent_bytes": null, "downtime_ms": null
        }))
        .unwrap(),
        decision: Decision {
            id: decision,
            at: NOW,
            asked_by: "user".into(),
            workload: "web".into(),
            source: "A".into(),
            destination: Some("B".into()),
            reason: "asked".into(),
            policy_version: 1,
            migration: Some(id),
            trigger: None,
            strategy_reason: None,
            gain: None,
            benefit_s: None,
            cost_s: None,
            expected_downtime_ms: None,
            expected_bytes: None,
            candidates: Vec::new(),
            omitted: 0,
            kind: Default::default(),
            status: Default::default(),
            limits: None,
            answered_at: None,
        },
        epoch,
        ticket: Ticket("secret".into()),
    }
}

/// The migration with its state as it stands right before the commit.
async fn before_commit(store: &Store, new: &NewMigration) -> StoredMigration {
    let mut stored = store.migration(new.record.id).await.unwrap().unwrap();
    let done = |step| Event::Answered { step, outcome: Ok(()) };
    for event in [Event::Begin, done(Step::Inspect), done(Step::Reserve), done(Step::Ship), done(Step::Restore)] {
        stored.state = stored.state.step(event).0;
    }
    let inspect = serde_json::json!({"Config": {"Env": ["PASSWORD=x"]}});
    stored.specification = Some(Specification { name: "web".into(), image: "sha256:1".into(), inspect });
    store.save_migration(&stored, NOW).await.unwrap();
    stored
}

fn committed(mut stored: StoredMigration) -> StoredMigration {
    stored.state = stored.state.step(Event::Committed).0;
    stored
}

#[tokio::test]
async fn a_workload_has_one_unfinished_migration() {
    let (_dir, store) = store().await;
    store.claim("web", "A", 1, NOW).await.unwrap();
    store.begin_migration(&new_migration(1), NOW).await.unwrap();
    let again = store.begin_migration(&new_migration(1), NOW).await;
    assert!(matches!(again, Err(StoreError::AlreadyMigrating { workload }) if workload == "web"));
    let listing =
        Listing { table: "decisions", body: "body", unique: "id", key: "at_ms", descending: false, limit: 10 };
    let decisions = store.page::<Decision>(listing, &[], None).await.unwrap();
    assert_eq!(decisions.len(), 1, "the refused one left no decision");
}

#[tokio::test]
async fn a_migration_begins_only_from_the_owner_and_epoch_that_were_decided_on() {
    let (_dir, store) = store().await;
    let owner_changed = |result| matches!(result, Err(StoreError::OwnerChanged { .. }));
    assert!(owner_changed(store.begin_migration(&new_migration(1), NOW).await), "nobody owns it");
    store.claim("web", "B", 1, NOW).await.unwrap();
    assert!(owner_changed(store.begin_migration(&new_migration(1), NOW).await), "another node owns it");
    store.claim("web", "A", 2, NOW).await.unwrap();
    assert!(owner_changed(store.begin_migration(&new_migration(1), NOW).await), "it came back meanwhile");
    store.begin_migration(&new_migration(2), NOW).await.unwrap();
}

#[tokio::test]
async fn the_commit_moves_ownership_once() {
    let (_dir, store) = store().await;
    store.claim("web", "A", 1, NOW).await.unwrap();
    let new = new_migration(1);
    store.begin_migration(&new, NOW).await.unwrap();
    let after = committed(before_commit(&store, &new).await);
    assert!(store.commit_migration(&after, NOW).await.unwrap());
    let row = store.ownerships().await.unwrap().remove(0);
    assert_eq!((row.owner.as_deref(), row.epoch, row.moved_from.as_deref()), (Some("B"), 2, Some("A")));
    let stored = store.migration(new.record.id).await.unwrap().unwrap();
    assert_eq!(stored.state, after.state);
    // A reply that was lost must not be taken for a refusal: the container would be thawed behind the commit.
    assert!(store.commit_migration(&after, NOW).await.unwrap(), "it is committed");
    assert_eq!(store.ownerships().await.unwrap()[0].epoch, 2, "and is not moved twice");
}

#[tokio::test]
async fn a_refused_commit_writes_nothing() {
    let (_dir, store) = store().await;
    store.claim("web", "A", 1, NOW).await.unwrap();
    let new = new_migration(1);
    store.begin_migration(&new, NOW).await.unwrap();
    let before = before_commit(&store, &new).await;
    store.release("web", "A", 1, NOW).await.unwrap();
    assert!(!store.commit_migration(&committed(before.clone()), NOW).await.unwrap());
    assert_eq!(store.migration(new.record.id).await.unwrap().unwrap().state, before.state);
}

#[tokio::test]
async fn secrets_do_not_outlive_the_migration() {
    let (_dir, store) = store().await;
    store.claim("web", "A", 1, NOW).await.unwrap();
    let new = new_migration(1);
    store.begin_migration(&new, NOW).await.unwrap();
    let mut stored = before_commit(&store, &new).await;
    assert_eq!(store.unfinished_migrations().await.unwrap().len(), 1);
    stored.state.outstanding.clear();
    stored.state.phase = fog_core::migration::Phase::Done;
    store.save_migration(&stored, NOW).await.unwrap();
    let stored = store.migration(new.record.id).await.unwrap().unwrap();
    assert!(stored.ticket.is_none() && stored.specification.is_none());
    assert!(store.unfinished_migrations().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_batch_that_is_sent_twice_is_stored_once() {
    let (_dir, store) = store().await;
    let boot = Uuid::now_v7();
    let hello = Hello {
        protocol: PROTOCOL,
        node: "A".into(),
        agent_version: "0".into(),
        boot,
        transfer_address: "127.0.0.1:7710".into(),
        facts: NodeFacts::default(),
    };
    store.save_node(&hello, NOW).await.unwrap();
    let samples: Vec<Sample> = (1..=3)
        .map(|seq| Sample {
            seq,
            at: NOW,
            cpu: 0.1,
            run_queue: 0.0,
            load1: 0.0,
            memory: 0.1,
            pressure: None,
            disk: 0.1,
            network_received_bytes_per_s: 0.0,
            network_sent_bytes_per_s: 0.0,
            temperature_c: None,
            workloads: None,
            links: Vec::new(),
        })
        .collect();
    for _ in 0..2 {
        store.save_samples("A", boot, &samples, NOW).await.unwrap();
    }
    assert_eq!(store.sample_count("A").await.unwrap(), 3);
    assert_eq!(store.nodes().await.unwrap()[0].heartbeat_at, Some(NOW));
    let hour_later = Timestamp::from_second(3600).unwrap();
    assert_eq!(store.forget_samples(hour_later).await.unwrap(), 3);
}

#[tokio::test]
async fn what_was_written_is_there_after_reopening() {
    let (dir, store) = store().await;
    store.claim("web", "A", 1, NOW).await.unwrap();
    store.close().await;
    let store = Store::open(&dir.path().join("fogshift.db")).await.unwrap();
    assert_eq!(store.ownerships().await.unwrap()[0].owner.as_deref(), Some("A"));
    store.claim("web", "B", 1, NOW).await.unwrap();
    assert_eq!(store.ownerships().await.unwrap()[0].owner.as_deref(), Some("A"), "an old epoch changes nothing");
}
