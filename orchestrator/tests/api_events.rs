//! Events: every one once and in order, whatever breaks; webhooks: signed, tried again, given up, redelivered.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use fog_api::client::{Client, Told};
use fog_api::event::{Event, EventFilter};
use fog_sim::world::World;
use futures_util::StreamExt;
use serde_json::{Value, json};
use support::Orchestrator;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn two_nodes(world: &Arc<World>, lines: &str) -> Orchestrator {
    let mut orchestrator = Orchestrator::start_configured(lines).await;
    world.run("A", "looper");
    orchestrator.node(world, "A", 0.3, &[("B", 2.0)]);
    orchestrator.node(world, "B", 0.2, &[("A", 2.0)]);
    orchestrator.active(2).await;
    orchestrator.workload_on("looper", "A").await;
    orchestrator
}

/// Waits until looper can be moved: it runs, nothing moves it, both nodes are measured. Returns where it can go.
async fn elsewhere(orchestrator: &Orchestrator) -> &'static str {
    orchestrator.active(2).await;
    let rests = || async {
        let looper = orchestrator.get("/v1/workloads/looper").await;
        let measured = orchestrator.list("/v1/nodes").await.iter().all(|node| node["utilization"].is_object());
        let rests = looper["state"] == "running" && looper["migration"].is_null() && measured;
        rests.then(|| if looper["node"] == "A" { "B" } else { "A" })
    };
    orchestrator.until("looper rests", rests).await
}

/// The whole history as the store has it: number and type.
async fn history(orchestrator: &Orchestrator) -> Vec<(u64, String)> {
    let url = format!("{}/v1/events?follow=false&after=0", orchestrator.url);
    let text = orchestrator.http.get(url).send().await.unwrap().text().await.unwrap();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let events = data.map(|data| serde_json::from_str::<Value>(data).unwrap());
    events.filter_map(|event| Some((event["seq"].as_u64()?, event["type"].as_str()?.to_owned()))).collect()
}

#[tokio::test]
async fn a_listener_misses_and_repeats_nothing_though_the_orchestrator_is_killed_in_the_middle_of_it() {
    let world = Arc::new(World::default());
    let mut orchestrator = two_nodes(&world, "").await;
    let seen: Arc<Mutex<Vec<(u64, Event)>>> = Arc::default();
    let resumptions = Arc::new(Mutex::new(0));
    let client = Client::new(&orchestrator.url, None).unwrap();
    let (kept, count) = (Arc::clone(&seen), Arc::clone(&resumptions));
    let listener = tokio::spawn(async move {
        let mut last = 0;
        loop {
            let Ok(mut told) = client.occurrences(Some(last), &EventFilter::default()).await else {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                continue;
            };
            *count.lock().unwrap() += 1;
            while let Some(Ok(told)) = told.next().await {
                match told {
                    Told::Occurrence(one) => {
                        if let Some(seq) = one.seq {
                            last = seq;
                            kept.lock().unwrap().push((seq, one.event));
                        }
                    }
                    Told::Ready(_) => {}
                    Told::Missed => panic!("everything is kept"),
                }
            }
        }
    });
    let mut moves = Vec::new();
    for _ in 0..3 {
        let to = elsewhere(&orchestrator).await;
        // Killed somewhere in the middle of the move, and of the stream.
        let before = seen.lock().unwrap().len();
        let id = orchestrator.migrate("looper", to).await;
        let some = || async { (seen.lock().unwrap().len() > before + 2).then_some(()) };
        orchestrator.until("the move is told", some).await;
        orchestrator.kill();
        orchestrator.restart().await;
        // On a slow machine it may have been rolled back for stalling; it is over in any case.
        moves.push(orchestrator.over(&id).await);
    }
    let all = history(&orchestrator).await;
    let caught_up = || async { (seen.lock().unwrap().last()?.0 >= all.last()?.0).then_some(()) };
    orchestrator.until("the listener has heard everything", caught_up).await;
    listener.abort();
    let seen = seen.lock().unwrap();
    let heard: Vec<(u64, String)> =
        seen.iter().take(all.len()).map(|(seq, event)| (*seq, event.name().to_owned())).collect();
    assert_eq!(heard, all, "no gap, no repeat, the same order");
    assert!(all.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0), "the numbers have no holes");
    assert!(*resumptions.lock().unwrap() >= 4, "it was really cut off each time");
    for over in moves {
        let told = |event: &Event| matches!(event, Event::Migration { migration } if (migration.id, migration.phase) == (over.id, over.phase));
        assert!(seen.iter().any(|(_, event)| told(event)), "the end of {} was told", over.id);
    }
    assert_eq!(world.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_listener_gets_what_it_asked_for_and_is_told_what_is_no_longer_there() {
    let world = Arc::new(World::default());
    let orchestrator = two_nodes(&world, "").await;
    let id = orchestrator.migrate("looper", "B").await;
    orchestrator.over(&id).await;
    let text = |query: &str| {
        let request = orchestrator.http.get(format!("{}/v1/events?follow=false&{query}", orchestrator.url));
        async move { request.send().await.unwrap().text().await.unwrap() }
    };
    let names = |text: &str| -> BTreeSet<String> {
        text.lines().filter_map(|line| line.strip_prefix("event: ")).map(str::to_owned).collect()
    };
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(names(&text("types=decision,migration").await), set(&["ready", "decision", "migration"]));
    assert_eq!(names(&text("workload=nobody").await), set(&["ready"]));
    assert_eq!(names(&text("node=B&types=workload-found,migration").await), set(&["ready", "migration"]));
    let newest = history(&orchestrator).await.last().unwrap().0;
    assert!(names(&text(&format!("after={}", newest + 5)).await).contains("missed"), "that was never given");
    let unknown = orchestrator.get("/v1/events?types=migration,birth").await;
    assert_eq!((&unknown["status"], &unknown["errors"][0]["parameter"]), (&400.into(), &"types".into()));
    // Live events have no number.
    let live = orchestrator.http.get(format!("{}/v1/events", orchestrator.url)).send().await.unwrap();
    let mut live = live.bytes_stream();
    let mut heard = String::new();
    while !heard.contains("event: node\n") {
        heard.push_str(&String::from_utf8_lossy(&live.next().await.unwrap().unwrap()));
    }
    assert!(heard.starts_with(&format!("event: ready\nid: {newest}\n")), "{heard}");
}

#[tokio::test]
async fn every_stream_ends_when_the_orchestrator_is_told_to() {
    let world = Arc::new(World::default());
    let orchestrator = two_nodes(&world, "").await;
    let open = || async { orchestrator.http.get(format!("{}/v1/events", orchestrator.url)).send().await.unwrap() };
    let streams = futures_util::future::join_all((0..5).map(|_| open())).await;
    let begin = std::time::Instant::now();
    let killed = std::process::Command::new("kill").arg(orchestrator.pid().to_string()).status().unwrap();
    assert!(killed.success());
    for stream in streams {
        let end = tokio::time::timeout(support::DEADLINE, stream.bytes()).await;
        assert!(end.is_ok(), "still open after {:?}", begin.elapsed());
    }
    let log = || async { orchestrator.log().contains("INFO ended").then_some(()) };
    orchestrator.until("it has ended", log).await;
    assert!(!orchestrator.log().contains("did not end in"), "{}", orchestrator.log());
}

/// A request that a receiver got.
#[derive(Debug, Clone)]
struct Posted {
    head: String,
    body: String,
}

impl Posted {
    fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find_map(|line| line.split_once(": ").filter(|(key, _)| *key == name));
        line.unwrap_or_else(|| panic!("{name} is missing: {}", self.head)).1
    }
}

/// A receiver on a real socket. It answers what it is told to.
struct Receiver {
    url: String,
    posted: Arc<Mutex<Vec<Posted>>>,
    status: Arc<Mutex<u16>>,
    task: tokio::task::AbortHandle,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let (posted, status): (Arc<Mutex<Vec<Posted>>>, _) = (Arc::default(), Arc::new(Mutex::new(204)));
        let (kept, answer) = (Arc::clone(&posted), Arc::clone(&status));
        let task = tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut bytes = Vec::new();
                let (head, length) = loop {
                    if socket.read_buf(&mut bytes).await.unwrap() == 0 {
                        break (None, 0);
                    }
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    if let Some((head, _)) = text.split_once("\r\n\r\n") {
                        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                        break (Some(head.to_owned()), length.unwrap().parse::<usize>().unwrap());
                    }
                };
                let Some(head) = head else { continue };
                let begin = head.len() + 4;
                while bytes.len() < begin + length {
                    assert_ne!(socket.read_buf(&mut bytes).await.unwrap(), 0);
                }
                kept.lock().unwrap().push(Posted { head, body: String::from_utf8(bytes[begin..].to_vec()).unwrap() });
                let status = *answer.lock().unwrap();
                let reply = format!("HTTP/1.1 {status} So\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                socket.write_all(reply.as_bytes()).await.unwrap();
            }
        });
        Self { url, posted, status, task: task.abort_handle() }
    }

    fn got(&self) -> Vec<Posted> {
        self.posted.lock().unwrap().clone()
    }
}

const HASTY: &str = "webhook_attempts = 3\nwebhook_pause_ms = 10\n";

#[tokio::test]
async fn a_webhook_gets_its_events_signed_in_order_and_goes_on_after_a_restart() {
    let world = Arc::new(World::default());
    let mut orchestrator = two_nodes(&world, HASTY).await;
    let receiver = Receiver::start().await;
    let asked = json!({"url": receiver.url, "filter": {"types": ["migration"], "workload": "looper"}});
    let made = orchestrator.send("POST", "/v1/webhooks", &[], Some(asked)).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let secret = made.body["secret"].as_str().unwrap();
    for _ in 0..2 {
        let to = elsewhere(&orchestrator).await;
        let id = orchestrator.migrate("looper", to).await;
        let phase = orchestrator.over(&id).await.phase.to_string();
        let told = |id: &str| {
            receiver.got().iter().any(|posted| {
                let event: Value = serde_json::from_str(&posted.body).unwrap();
                event["migration"]["id"] == *id && event["migration"]["phase"] == phase
            })
        };
        orchestrator.until("the end of the move is posted", || async { told(&id).then_some(()) }).await;
        orchestrator.kill();
        orchestrator.restart().await;
    }
    let mut last = 0;
    for posted in receiver.got() {
        let event: Value = serde_json::from_str(&posted.body).unwrap();
        let seq = event["seq"].as_u64().unwrap();
        assert!(seq >= last, "in order; only the one that was under way at the kill may come again");
        last = seq;
        assert_eq!((posted.header("fogshift-event"), &event["type"]), ("migration", &"migration".into()));
        assert!(posted.header("fogshift-delivery").ends_with(&format!("-{seq}")));
        let signature = posted.header("fogshift-signature");
        let seconds: i64 = signature.strip_prefix("t=").unwrap().split(',').next().unwrap().parse().unwrap();
        assert_eq!(signature, fog_orchestrator::webhooks::signature(secret, seconds, posted.body.as_bytes()));
        assert!((jiff::Timestamp::now().as_second() - seconds).abs() < 600);
    }
    assert!(!orchestrator.list("/v1/webhooks").await[0].to_string().contains(secret), "it is shown once");
    let refused = json!({"url": "https://example.com/", "filter": {}});
    let refused = orchestrator.send("POST", "/v1/webhooks", &[], Some(refused)).await;
    assert_eq!((refused.status, &refused.body["errors"][0]["pointer"]), (422, &"/url".into()));
    let refused = json!({"url": receiver.url, "filter": {"types": ["birth"]}});
    let refused = orchestrator.send("POST", "/v1/webhooks", &[], Some(refused)).await;
    assert_eq!((refused.status, &refused.body["errors"][0]["pointer"]), (422, &"/filter/types".into()));
}

#[tokio::test]
async fn what_a_receiver_does_not_take_is_tried_again_then_kept_and_can_be_posted_once_more() {
    let world = Arc::new(World::default());
    let orchestrator = two_nodes(&world, HASTY).await;
    let receiver = Receiver::start().await;
    *receiver.status.lock().unwrap() = 503;
    let asked = json!({"url": receiver.url, "filter": {"types": ["node-ordered"]}, "secret": "0123456789abcdef"});
    let made = orchestrator.send("POST", "/v1/webhooks", &[], Some(asked)).await;
    let webhook = made.body["webhook"]["id"].as_str().unwrap().to_owned();
    orchestrator.send("POST", "/v1/nodes/B/cordon", &[], None).await;
    let letter = || async { orchestrator.list("/v1/dead-letters").await.first().cloned() };
    let letter = orchestrator.until("it is given up", letter).await;
    assert_eq!((&letter["attempts"], &letter["webhook"]), (&3.into(), &webhook.as_str().into()));
    assert!(letter["error"].as_str().unwrap().contains("503"), "{letter}");
    assert_eq!(letter["event"]["name"], "B");
    let deliveries: BTreeSet<String> =
        receiver.got().iter().map(|posted| posted.header("fogshift-delivery").to_owned()).collect();
    assert_eq!((receiver.got().len(), deliveries.len()), (3, 1), "three attempts of one delivery");
    // The next event does not wait for it.
    *receiver.status.lock().unwrap() = 200;
    orchestrator.send("POST", "/v1/nodes/B/uncordon", &[], None).await;
    let taken = || async { (receiver.got().len() == 4).then_some(()) };
    orchestrator.until("the next one is posted", taken).await;
    let path = format!("/v1/dead-letters/{}", letter["id"].as_str().unwrap());
    *receiver.status.lock().unwrap() = 500;
    let again = orchestrator.send("POST", &format!("{path}/redeliver"), &[], None).await;
    assert_eq!((again.status, &again.body["type"]), (409, &"urn:fogshift:problem:not-taken".into()));
    assert_eq!(orchestrator.list("/v1/dead-letters").await[0]["attempts"], 4);
    *receiver.status.lock().unwrap() = 200;
    assert_eq!(orchestrator.send("POST", &format!("{path}/redeliver"), &[], None).await.status, 204);
    assert_eq!(orchestrator.list("/v1/dead-letters").await, Vec::<Value>::new());
    assert_eq!(orchestrator.send("POST", &format!("{path}/redeliver"), &[], None).await.status, 404);
    // Removed, it posts nothing more.
    assert_eq!(orchestrator.send("DELETE", &format!("/v1/webhooks/{webhook}"), &[], None).await.status, 204);
    let before = receiver.got().len();
    orchestrator.send("POST", "/v1/nodes/B/cordon", &[], None).await;
    let told = || async { history(&orchestrator).await.last().filter(|(_, name)| name == "node-ordered").map(drop) };
    orchestrator.until("it happened", told).await;
    assert_eq!(receiver.got().len(), before);
}

#[tokio::test]
async fn a_migration_has_its_own_log() {
    let world = Arc::new(World::default());
    let orchestrator = two_nodes(&world, "").await;
    let id = orchestrator.migrate("looper", "B").await;
    orchestrator.over(&id).await;
    let lines = || async {
        let lines = orchestrator.list(&format!("/v1/migrations/{id}/log")).await;
        let has = |part: &str| lines.iter().any(|line| line["message"].as_str().unwrap().contains(part));
        let from = |node: &str| lines.iter().any(|line| line["node"] == node);
        (has("step=ship") && has("done downtime_ms=") && from("A") && from("B")).then_some(lines)
    };
    let lines = orchestrator.until("its steps are in it", lines).await;
    assert!(lines.iter().all(|line| line["level"].is_string() && line["at"].is_string()), "{lines:?}");
    let by_agent = |line: &&Value| line["message"].as_str().unwrap().starts_with("simulated");
    assert!(lines.iter().filter(by_agent).all(|line| line["node"].is_string()), "{lines:?}");
    assert_eq!(orchestrator.list(&format!("/v1/migrations/{id}/log?level=error")).await, Vec::<Value>::new());
    let nobody = orchestrator.get("/v1/migrations/00000000-0000-0000-0000-000000000000/log").await;
    assert_eq!(nobody["status"], 404);
}
