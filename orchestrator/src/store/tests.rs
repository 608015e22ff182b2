use fog_api::agent::{Hello, NodeFacts, PROTOCOL, Pressure, Sample, Specification, Ticket};
use fog_api::decision::Decision;
use fog_api::node::PastDelay;
use fog_core::migration::{Event, Step};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::*;
use crate::delays;

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
    claim(&store, "web", "A", 1).await;
    store.begin_migration(&new_migration(1), NOW).await.unwrap();
    let again = store.begin_migration(&new_migration(1), NOW).await;
    assert!(matches!(again, Err(StoreError::AlreadyMigrating { workload }) if workload == "web"));
    let listing = Listing { table: "decisions", body: "body", unique: "id", key: "at_ms" };
    let decisions = store.page::<Decision>(listing, &[], None, false, 10).await.unwrap();
    assert_eq!(decisions.len(), 1, "the refused one left no decision");
}

#[tokio::test]
async fn a_migration_begins_only_from_the_owner_and_epoch_that_were_decided_on() {
    let (_dir, store) = store().await;
    let owner_changed = |result| matches!(result, Err(StoreError::OwnerChanged { .. }));
    assert!(owner_changed(store.begin_migration(&new_migration(1), NOW).await), "nobody owns it");
    claim(&store, "web", "B", 1).await;
    assert!(owner_changed(store.begin_migration(&new_migration(1), NOW).await), "another node owns it");
    claim(&store, "web", "A", 2).await;
    assert!(owner_changed(store.begin_migration(&new_migration(1), NOW).await), "it came back meanwhile");
    store.begin_migration(&new_migration(2), NOW).await.unwrap();
}

#[tokio::test]
async fn the_commit_moves_ownership_once() {
    let (_dir, store) = store().await;
    claim(&store, "web", "A", 1).await;
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
    claim(&store, "web", "A", 1).await;
    let new = new_migration(1);
    store.begin_migration(&new, NOW).await.unwrap();
    let before = before_commit(&store, &new).await;
    let gone = Ownership { workload: "web".into(), owner: None, epoch: 1, moved_at: None, moved_from: None };
    store.save_samples(Class::Heartbeat, "A", Vec::new(), vec![gone], NOW).await.unwrap();
    assert!(!store.commit_migration(&committed(before.clone()), NOW).await.unwrap());
    assert_eq!(store.migration(new.record.id).await.unwrap().unwrap().state, before.state);
}

#[tokio::test]
async fn secrets_do_not_outlive_the_migration() {
    let (_dir, store) = store().await;
    claim(&store, "web", "A", 1).await;
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

fn sample(at: Timestamp, cpu: f64) -> Sample {
    Sample {
        seq: 1,
        at,
        cpu,
        run_queue: 2.5,
        load1: 0.0,
        memory: 0.25,
        pressure: Some(Pressure { cpu: 0.5, memory: 0.0, io: 0.0 }),
        disk: 0.1,
        network_received_bytes_per_s: 1000.0,
        network_sent_bytes_per_s: 0.0,
        temperature_c: (cpu > 0.5).then_some(71.5),
        workloads: None,
        links: Vec::new(),
    }
}

async fn save(store: &Store, samples: &[Sample], now: Timestamp) {
    let hello = Hello {
        protocol: PROTOCOL,
        node: "A".into(),
        agent_version: "0".into(),
        boot: Uuid::nil(),
        transfer_address: "127.0.0.1:7710".into(),
        facts: NodeFacts::default(),
    };
    store.save_node(&hello, now).await.unwrap();
    store.save_samples(Class::Heartbeat, "A", store.rows(samples, now), Vec::new(), now).await.unwrap();
}

#[tokio::test]
async fn a_batch_that_is_sent_twice_is_stored_once() {
    let (_dir, store) = store().await;
    let now = crate::clock::now();
    let samples: Vec<Sample> = (1..=3).map(|s| sample(now - SignedDuration::from_secs(s), 0.1)).collect();
    for _ in 0..2 {
        save(&store, &samples, now).await;
    }
    assert_eq!(store.sample_count("A").await.unwrap(), 3);
    assert_eq!(store.nodes().await.unwrap()[0].heartbeat_at, Some(now));
}

/// The end of the last full hour.
fn full_hour() -> Timestamp {
    let now = crate::clock::now().as_second();
    Timestamp::from_second(now - now % 3600).unwrap()
}

#[tokio::test]
async fn every_level_tells_the_same_story_and_each_is_kept_for_its_own_time() {
    let (_dir, store) = store().await;
    let store = store.keeping(Retention {
        samples: SignedDuration::from_hours(2),
        minutes: SignedDuration::from_hours(24),
        hours: SignedDuration::from_hours(72),
    });
    let end = full_hour();
    let begin = end - SignedDuration::from_hours(1);
    // 0.2 but for the second half of each minute.
    let at = |second| begin + SignedDuration::from_secs(second);
    let samples: Vec<Sample> = (0..360).map(|n| sample(at(n * 10), if n % 6 < 3 { 0.2 } else { 0.8 })).collect();
    save(&store, &samples, end).await;
    let points = async |step_s| store.samples("A", begin, end, step_s).await.unwrap();
    let before: Vec<_> = [10, 60, 600, 3600].into_iter().collect();
    let mut told = Vec::new();
    for step in &before {
        told.push(points(*step).await);
    }
    assert_eq!(told.iter().map(Vec::len).collect::<Vec<_>>(), [360, 60, 6, 1]);
    store.roll_up(1, 2, end).await.unwrap();
    for (step, told) in before.iter().zip(&told) {
        assert_eq!(&points(*step).await, told, "step {step}");
    }
    let hour = &points(3600).await[0];
    assert_eq!((hour.samples, hour.cpu, hour.cpu_max, hour.temperature_c), (360, 0.5, 0.8, Some(71.5)));
    assert_eq!((hour.run_queue, hour.pressure.unwrap().cpu, hour.received_bytes_per_s), (2.5, 0.5, 1000.0));

    // Three hours later the samples are gone and the minutes tell it, days later the hour does.
    let later = |hours| end + SignedDuration::from_hours(hours);
    store.roll_up(1, 2, later(3)).await.unwrap();
    assert_eq!(store.sample_count("A").await.unwrap(), 0);
    assert_eq!(points(60).await, told[1]);
    store.roll_up(1, 2, later(30)).await.unwrap();
    assert_eq!(points(60).await.len(), 0);
    assert_eq!(points(3600).await, told[3]);
    store.roll_up(1, 2, later(80)).await.unwrap();
    assert_eq!(points(3600).await, Vec::new());
}

#[tokio::test]
async fn a_late_sample_is_counted_in_its_minute_and_its_hour() {
    let (_dir, store) = store().await;
    let end = full_hour();
    let minutes_ago = |minutes| end - SignedDuration::from_mins(minutes);
    save(&store, &[sample(minutes_ago(30), 0.2), sample(minutes_ago(10), 0.2)], end).await;
    store.roll_up(1, 2, end).await.unwrap();
    save(&store, &[sample(minutes_ago(30) + SignedDuration::from_secs(20), 0.4)], end).await;
    store.roll_up(1, 2, end).await.unwrap();
    let points = store.samples("A", minutes_ago(60), end, 60).await.unwrap();
    let told: Vec<_> = points.iter().map(|point| (point.samples, point.cpu)).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].0 == 2 && (told[0].1 - 0.3).abs() < 1e-9, "{told:?}");
    assert_eq!(store.samples("A", minutes_ago(60), end, 3600).await.unwrap()[0].samples, 3);
}

#[tokio::test]
async fn what_is_older_than_what_is_kept_or_comes_from_the_future_does_no_harm() {
    let (_dir, store) = store().await;
    let now = crate::clock::now();
    store.roll_up(1, 2, now).await.unwrap();
    let day = SignedDuration::from_hours(24);
    save(&store, &[sample(now - day, 0.2), sample(now + day, 0.2)], now).await;
    assert_eq!(store.sample_count("A").await.unwrap(), 1);
    let points = store.samples("A", now - day, now + SignedDuration::from_secs(1), 10).await.unwrap();
    assert_eq!(points.iter().map(|point| point.samples).collect::<Vec<_>>(), [1]);
}

/// A node that shows a container that nobody owns.
async fn claim(store: &Store, workload: &str, node: &str, epoch: u64) {
    let row =
        Ownership { workload: workload.into(), owner: Some(node.into()), epoch, moved_at: None, moved_from: None };
    store.save_samples(Class::Heartbeat, node, Vec::new(), vec![row], NOW).await.unwrap();
}

#[tokio::test]
async fn what_was_written_is_there_after_reopening() {
    let (dir, store) = store().await;
    claim(&store, "web", "A", 1).await;
    store.close().await;
    let store = Store::open(&dir.path().join("fogshift.db")).await.unwrap();
    assert_eq!(store.ownerships().await.unwrap()[0].owner.as_deref(), Some("A"));
    claim(&store, "web", "B", 1).await;
    assert_eq!(store.ownerships().await.unwrap()[0].owner.as_deref(), Some("A"), "an old epoch changes nothing");
}

#[tokio::test]
async fn delays_are_kept_by_the_minute_and_longer_by_the_hour() {
    let (_dir, store) = store().await;
    let now = crate::clock::now();
    save(&store, &[sample(now, 0.5)], now).await;
    let step = |level, hours_ago: i64| delays::Step {
        node: "A".into(),
        level,
        at_ms: (now - SignedDuration::from_hours(hours_ago)).as_millisecond(),
        links: delays::Links::from([("B".into(), (1.5, 4.0))]),
    };
    let steps = [1, 80].into_iter().flat_map(|ago| [step(delays::Level::Fine, ago), step(delays::Level::Hour, ago)]);
    let nobody = delays::Step { node: "nobody".into(), ..step(delays::Level::Fine, 1) };
    let steps: Vec<delays::Step> = steps.chain([nobody, step(delays::Level::Hour, 3000)]).collect();
    store.save_delays(&steps).await.unwrap();
    store.save_delays(&steps).await.unwrap();
    store.roll_up(0, 1000, now).await.unwrap();
    let since = async |hours| store.delays("A", now - SignedDuration::from_hours(hours), now).await.unwrap();
    assert_eq!(since(2).await.len(), 1);
    assert_eq!(since(2).await[0].links, [PastDelay { to: "B".into(), rtt_ms: 1.5, rtt_max_ms: 4.0 }]);
    assert_eq!(since(71).await.len(), 1, "the minutes of more than three days ago are forgotten");
    assert_eq!(since(100).await.len(), 2, "by the hour");
    assert_eq!(since(4000).await.len(), 2, "and those of more than ninety days ago");
    assert_eq!(store.delays("nobody", now - SignedDuration::from_hours(2), now).await.unwrap(), []);
}
