//! What a migration tells while it runs, and that every strategy can be given up wherever it is before the commit.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead, BufReader};
use std::process::{self, Command, Stdio};
use std::time::Instant;

use fog_api::agent::Stage;
use fog_api::migration::{Migration, Phase, Strategy};
use fog_e2e::cluster::{Cluster, DEADLINE, leftovers, state};
use fog_e2e::pages;
use fog_lab::{CgroupVersion, LabConfig, Node, Suite, wait_until};
use serde_json::Value;

const MIB: u32 = 24;
const STRATEGIES: [Strategy; 4] = [Strategy::StopAndCopy, Strategy::PreCopy, Strategy::PostCopy, Strategy::Hybrid];

/// While this file is there, CRIU on that node begins nothing.
const HELD: &str = "/run/criu-is-held";

/// Where a migration is held while it is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Point {
    /// The source's Docker does not answer.
    Inspecting,
    /// The destination's does not.
    Reserving,
    /// The image is on its way.
    Sync,
    /// The first round is.
    PreCopy,
    /// The source's CRIU waits: the container is frozen.
    Dump,
    /// The images are on their way.
    Ship,
    /// The destination's CRIU waits.
    Restore,
}

impl Point {
    fn of(strategy: Strategy) -> Vec<Point> {
        use Point::{Dump, PreCopy, Restore, Ship};
        match strategy {
            Strategy::StopAndCopy => vec![Dump, Ship, Restore],
            Strategy::PreCopy => vec![PreCopy, Dump, Restore],
            Strategy::Hybrid => vec![PreCopy, Dump, Restore],
            _ => vec![Dump, Restore],
        }
    }
}

fn begin(cluster: &Cluster, to: &str, strategy: Strategy) -> uuid::Uuid {
    let begun = wait_until(DEADLINE, "the move to be taken", || match cluster.begin_by("pages", to, strategy) {
        Err(error) if format!("{error:#}").contains("changed its owner") => Ok(None),
        other => other.map(|migration| Some(migration.id)),
    });
    begun.unwrap()
}

fn signal_docker(node: &Node, signal: &str) {
    node.run(&["pkill", signal, "-x", "dockerd"]).unwrap();
}

fn hold_criu(node: &Node) {
    node.run(&["touch", HELD]).unwrap();
}

fn let_criu_go(node: &Node) {
    node.run(&["rm", "-f", HELD]).unwrap();
}

/// CRIU that can be held once it was let begin; runc's questions before the freeze are always answered.
fn replace_criu(node: &Node) {
    let script = format!(
        "#!/bin/sh\n[ -n \"$FOG_CRIU_GATE\" ] || case \"$*\" in *swrk*|*dump*|*restore*) while [ -e {HELD} ]; do sleep 0.05; done;; esac\nexec /root/criu \"$@\"\n"
    );
    node.run(&["sh", "-c", "mv $(command -v criu) /root/criu"]).unwrap();
    node.write_file("/usr/sbin/criu", script).unwrap();
    node.run(&["chmod", "+x", "/usr/sbin/criu"]).unwrap();
}

fn stage(migration: &Migration) -> Option<(Stage, u64)> {
    migration.progress.as_ref().map(|progress| (progress.stage, progress.bytes))
}

/// Begins a move that comes to a point and stays there long enough.
fn bring(cluster: &Cluster, strategy: Strategy, point: Point) -> Migration {
    let (a, b) = (cluster.node("A"), cluster.node("B"));
    cluster.wait_active().unwrap();
    cluster.wait_known("pages", "A").unwrap();
    match point {
        Point::Inspecting => signal_docker(a, "-STOP"),
        Point::Reserving => signal_docker(b, "-STOP"),
        Point::Sync | Point::PreCopy | Point::Ship => a.limit_rate(Some("20mbit")).unwrap(),
        Point::Dump => hold_criu(a),
        Point::Restore => hold_criu(b),
    }
    let id = begin(cluster, "B", strategy);
    let travels = |wanted: Stage| {
        move |migration: &Migration| {
            matches!(stage(migration), Some((stage, bytes)) if stage == wanted && bytes > 0)
                && migration.phase == Phase::Moving
        }
    };
    let frozen = || {
        wait_until(DEADLINE, "the source to be frozen", || {
            Ok((state(a, "pages")?.as_deref() == Some("paused")).then_some(()))
        })
        .unwrap();
    };
    let wait = |what: &str, reached: &dyn Fn(&Migration) -> bool| {
        cluster.wait_migration(id, what, reached).unwrap_or_else(|error| panic!("{strategy} {point:?}: {error:#}"))
    };
    match point {
        Point::Inspecting => wait("the source to be asked", &|m| m.phase == Phase::Inspecting),
        Point::Reserving => wait("the destination to be asked", &|m| m.phase == Phase::Reserving),
        Point::Sync => wait("the image to travel", &travels(Stage::Sync)),
        Point::PreCopy => wait("memory to travel", &travels(Stage::PreCopy)),
        Point::Ship => wait("the images to travel", &travels(Stage::Ship)),
        Point::Dump => {
            frozen();
            wait("the dump to be told", &|m| m.progress.as_ref().is_some_and(|p| p.stage == Stage::Dump))
        }
        Point::Restore => {
            wait_until(DEADLINE, "the destination's CRIU to be asked", || {
                Ok(b.exec(&["pgrep", "-f", "/usr/sbin/criu.*(swrk|restore)"])?.status.success().then_some(()))
            })
            .unwrap();
            wait("it to be moving", &|m| m.phase == Phase::Moving)
        }
    }
}

/// Lets go of everything that could be held.
fn release(cluster: &Cluster) {
    for node in [cluster.node("A"), cluster.node("B")] {
        signal_docker(node, "-CONT");
        let_criu_go(node);
    }
    cluster.node("A").limit_rate(None).unwrap();
}

fn give_up(cluster: &Cluster, strategy: Strategy, point: Point) {
    let began = Instant::now();
    let id = bring(cluster, strategy, point).id;
    let asked = cluster.ask(|client| async move { client.cancel(id).await });
    asked.unwrap_or_else(|error| panic!("{strategy} {point:?}: {error:#}"));
    release(cluster);
    let migration = cluster.over(id).unwrap();
    eprintln!("{strategy} given up at {point:?}: {} after {:?}", migration.phase, began.elapsed());
    assert_eq!(migration.phase, Phase::RolledBack, "{strategy} {point:?}: {:?}", migration.cause);
    pages::checks_on(cluster.node("A"), "pages").unwrap();
    let clean = wait_until(DEADLINE, "both nodes to be clean", || {
        let left = [leftovers(cluster.node("A"))?, leftovers(cluster.node("B"))?].concat();
        Ok((left.is_empty() && state(cluster.node("B"), "pages")?.is_none()).then_some(()))
    });
    clean.unwrap_or_else(|error| {
        let left = [leftovers(cluster.node("A")).unwrap(), leftovers(cluster.node("B")).unwrap()];
        panic!("{strategy} {point:?}: {error}: {left:?}")
    });
}

#[test]
fn it_tells_how_far_it_is_and_can_be_given_up_anywhere_before_the_commit() {
    let mut config = LabConfig::new(&format!("told-{}", process::id()), &["A", "B"]);
    for node in &mut config.nodes {
        (node.suite, node.cgroup) = (Suite::Forky, Some(CgroupVersion::V2));
    }
    let cluster = Cluster::up(config, &mut |line| eprintln!("told: {line}")).unwrap();
    let image = pages::image().unwrap();
    fog_lab::images::load(cluster.node("A"), &image).unwrap();
    pages::run(cluster.node("A"), "pages", MIB, 60).unwrap();
    replace_criu(cluster.node("A"));
    replace_criu(cluster.node("B"));

    for point in [Point::Inspecting, Point::Reserving, Point::Sync] {
        STRATEGIES.into_iter().for_each(|strategy| give_up(&cluster, strategy, point));
    }
    fog_lab::images::load(cluster.node("B"), &image).unwrap();
    for strategy in STRATEGIES {
        Point::of(strategy).into_iter().for_each(|point| give_up(&cluster, strategy, point));
    }
    tells(&cluster);
}

/// A move over a slow link: its record while it runs, the history of its events, and what fogctl shows.
fn tells(cluster: &Cluster) {
    cluster.wait_active().unwrap();
    cluster.wait_known("pages", "A").unwrap();
    cluster.node("A").limit_rate(Some("100mbit")).unwrap();
    let fogctl = cluster
        .fogctl()
        .unwrap()
        .args(["migrate", "pages", "--to", "B", "--strategy", "hybrid", "--wait"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let running = wait_until(DEADLINE, "the move to have begun", || {
        let list = cluster.ask(|client| async move { client.workload("pages").await })?;
        Ok(list.migration)
    });
    let id = running.unwrap();
    // On the record while it runs: what has travelled, what remains, how fast, how long, and the rounds so far.
    let told = cluster.wait_migration(id, "the round to be told with its pace", |m| {
        m.progress.as_ref().is_some_and(|p| p.round == Some(1) && p.rate_bytes_per_s.is_some() && p.eta_s.is_some())
    });
    let progress = told.unwrap().progress.unwrap();
    eprintln!("{progress:?}");
    assert_eq!(progress.remaining_bytes, progress.bytes_total.map(|total| total.saturating_sub(progress.bytes)));
    let rounds = |m: &Migration| m.memory.as_ref().map_or(0, |memory| memory.rounds.len());
    let told = cluster.wait_migration(id, "a round to be over", |m| rounds(m) > 0 && m.phase == Phase::Moving).unwrap();
    assert!(told.stages_ms.contains_key(&Stage::Sync) && told.stages_bytes.contains_key(&Stage::Sync), "{told:?}");

    let output = fogctl.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    eprintln!("{said}{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success());
    for words in ["pre-copy round 1", "round 1: ", "/s", "left"] {
        assert!(said.contains(words), "{words:?} is missing");
    }
    cluster.node("A").limit_rate(None).unwrap();
    let over = cluster.over(id).unwrap();
    let memory = over.memory.clone().unwrap();
    eprintln!("{:?} {:?} {memory:?}", over.stages_ms, over.stages_bytes);
    for stage in [Stage::Sync, Stage::PreCopy, Stage::Ship, Stage::Drain] {
        assert!(over.stages_bytes.contains_key(&stage), "{stage:?} of {:?}", over.stages_bytes);
    }
    let sent: u64 = memory.rounds.iter().map(|round| round.sent_bytes).sum();
    assert_eq!(over.stages_bytes[&Stage::PreCopy], sent);

    // The history has the record after every round, whoever listened.
    let (url, token) = (cluster.lab().url(), cluster.lab().token().unwrap());
    let mut listener = Command::new("curl")
        .args(["-sN", "--max-time", "60", "-H", &format!("Authorization: Bearer {token}"), "-H", "Last-Event-ID: 0"])
        .arg(format!("{url}/v1/events?types=migration"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut seen: Vec<usize> = Vec::new();
    for line in BufReader::new(listener.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let Some(event) = line.strip_prefix("data:").and_then(|data| serde_json::from_str::<Value>(data).ok()) else {
            continue;
        };
        if event.pointer("/migration/id").and_then(Value::as_str) != Some(&id.to_string()) {
            continue;
        }
        let rounds = event.pointer("/migration/memory/rounds").and_then(Value::as_array);
        seen.push(rounds.map_or(0, Vec::len));
        if event.pointer("/migration/phase").and_then(Value::as_str) == Some("done") {
            break;
        }
    }
    listener.kill().unwrap();
    listener.wait().unwrap();
    eprintln!("rounds in the history of events: {seen:?}");
    for count in 0..=memory.rounds.len() {
        assert!(seen.contains(&count), "{count} rounds are missing in {seen:?}");
    }
}
