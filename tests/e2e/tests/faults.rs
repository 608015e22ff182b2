//! Every failure before the commit leaves the source counting, and says why. A dead orchestrator goes on where it was.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::process;

use fog_api::agent::{Stage, Step};
use fog_api::migration::{Migration, Phase};
use fog_e2e::cluster::{Cluster, DEADLINE, leftovers, runs, state};
use fog_e2e::looper;
use fog_lab::{LabConfig, Node, Suite, wait_until};

/// Enough to be still on its way when a test does something to it.
const HEAVY_MIB: u32 = 24;
const SLOW: &str = "30mbit";

/// Two hosts with a slow link between them and a heavy looper on A.
fn cluster(name: &str) -> Cluster {
    let mut config = LabConfig::new(&format!("{name}-{}", process::id()), &["A", "B"]);
    for node in &mut config.nodes {
        node.suite = Suite::Forky;
    }
    let cluster = Cluster::up(config, &mut |line| eprintln!("{name}: {line}")).unwrap();
    looper::run_heavy(cluster.node("A"), "looper", HEAVY_MIB).unwrap();
    cluster.wait_known("looper", "A").unwrap();
    cluster
}

fn slow(cluster: &Cluster) {
    cluster.node("A").limit_rate(Some(SLOW)).unwrap();
}

/// Begins a migration and waits until its bytes are on their way.
fn begin_shipping(cluster: &Cluster) -> Migration {
    let id = cluster.begin("looper", "B").unwrap().id;
    let shipping = |migration: &Migration| {
        migration.progress.as_ref().is_some_and(|progress| progress.stage == Stage::Ship && progress.bytes > 0)
    };
    // Progress is told, not stored: what is stored says `moving`, and A's container is paused by then.
    let migration = cluster.wait_migration(id, "the looper to be moving", |m| m.phase == Phase::Moving || shipping(m));
    let frozen = wait_until(DEADLINE, "the source to be frozen", || {
        Ok((state(cluster.node("A"), "looper")?.as_deref() == Some("paused")).then_some(()))
    });
    frozen.unwrap();
    migration.unwrap()
}

/// The looper runs on A alone and counts on as if nothing had happened; nothing is left on either node.
fn check_rolled_back(cluster: &Cluster) {
    let a = cluster.node("A");
    assert_eq!(state(a, "looper").unwrap().as_deref(), Some("running"));
    let before = looper::numbers(a, "looper").unwrap().len();
    let numbers = wait_until(DEADLINE, "the looper to count on", || {
        Ok(Some(looper::numbers(a, "looper")?).filter(|numbers| numbers.len() > before))
    });
    looper::check_consecutive(&numbers.unwrap()).unwrap();
    let clean = wait_until(DEADLINE, "both nodes to be clean", || {
        let left = [leftovers(cluster.node("A"))?, leftovers(cluster.node("B"))?].concat();
        Ok((left.is_empty() && state(cluster.node("B"), "looper")?.is_none()).then_some(()))
    });
    clean.unwrap_or_else(|error| {
        let left = [leftovers(cluster.node("A")).unwrap(), leftovers(cluster.node("B")).unwrap()];
        panic!("{error}: {left:?}, on B: {:?}", state(cluster.node("B"), "looper"))
    });
    cluster.wait_known("looper", "A").unwrap();
}

fn rolled_back(cluster: &Cluster, migration: &Migration, words: &[&str]) -> Migration {
    let migration = cluster.over(migration.id).unwrap();
    let cause = migration.cause.clone().unwrap();
    eprintln!(
        "{}: {} ({:?} on {:?})\n{}",
        migration.phase,
        cause.message,
        cause.step,
        cause.node,
        cause.log.join("\n")
    );
    assert_eq!(migration.phase, Phase::RolledBack);
    for word in words {
        assert!(cause.message.to_lowercase().contains(&word.to_lowercase()), "{word:?} is missing in {cause:?}");
    }
    check_rolled_back(cluster);
    migration
}

const UNKNOWN: &str = "Error (criu/moon.c:7): the moon is in the wrong phase";

/// CRIU that writes its log and ends.
fn break_criu(node: &Node, log: &str) {
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *swrk*|*dump*|*restore*) ;; *) exec /root/criu \"$@\";; esac\n\
         for folder in /run/fogshift/images/*/work; do echo '(00.000001) {UNKNOWN}' > $folder/{log}; done\nexit 1\n"
    );
    node.run(&["sh", "-c", "mv $(command -v criu) /root/criu"]).unwrap();
    node.write_file("/usr/sbin/criu", script).unwrap();
    node.run(&["chmod", "+x", "/usr/sbin/criu"]).unwrap();
}

/// One cluster for all: each case ends as it began.
#[test]
fn every_failure_before_the_commit_leaves_the_source_counting() {
    let cluster = cluster("faults");
    let (a, b) = (cluster.node("A"), cluster.node("B"));

    eprintln!("== the destination refuses: the name is taken there by a container that somebody made by hand");
    b.run(&["docker", "create", "--name", "looper", "fog/busybox:1"]).unwrap();
    let migration = cluster.over(cluster.begin("looper", "B").unwrap().id).unwrap();
    let cause = migration.cause.clone().unwrap();
    assert_eq!(
        (migration.phase, cause.step, cause.node.as_deref()),
        (Phase::RolledBack, Some(Step::Reserve), Some("B"))
    );
    assert!(cause.message.contains("looper"), "{cause:?}");
    assert_eq!(state(b, "looper").unwrap().as_deref(), Some("created"), "what belongs to a user is not touched");
    b.run(&["docker", "rm", "looper"]).unwrap();
    check_rolled_back(&cluster);

    // Nobody has translated these words: they are shown as they are.
    for (node, log, step) in [(a, "dump.log", Step::Ship), (b, "restore.log", Step::Restore)] {
        eprintln!("== CRIU on {} fails with words that nobody knows", node.name());
        break_criu(node, log);
        let migration = cluster.begin("looper", "B").unwrap();
        let cause = rolled_back(&cluster, &migration, &[]).cause.unwrap();
        assert_eq!((cause.step, cause.node.as_deref()), (Some(step), Some(node.name())));
        assert!(cause.log.iter().any(|line| line.contains(UNKNOWN)), "{cause:?}");
        node.run(&["mv", "/root/criu", "/usr/sbin/criu"]).unwrap();
    }

    slow(&cluster);
    eprintln!("== the transfer breaks: nothing passes between the two nodes any more");
    let migration = begin_shipping(&cluster);
    cluster.lab().cut_between("A", "B").unwrap();
    rolled_back(&cluster, &migration, &[]);
    cluster.lab().heal_between("A", "B").unwrap();

    eprintln!("== the source's agent is killed during the transfer");
    let migration = begin_shipping(&cluster);
    cluster.lab().kill_agent("A").unwrap();
    cluster.lab().start_agent("A").unwrap();
    rolled_back(&cluster, &migration, &[]);

    eprintln!("== the destination's agent is killed during the transfer");
    let migration = begin_shipping(&cluster);
    cluster.lab().kill_agent("B").unwrap();
    cluster.lab().start_agent("B").unwrap();
    rolled_back(&cluster, &migration, &[]);

    eprintln!("== after all that it moves");
    a.limit_rate(None).unwrap();
    cluster.wait_active().unwrap();
    cluster.migrate("looper", "B").unwrap();
    looper::check_consecutive(&looper::numbers(b, "looper").unwrap()).unwrap();
    assert_eq!(state(a, "looper").unwrap(), None);
}

/// The nodes on which the looper runs; frozen and held ones do not.
fn running(cluster: &Cluster) -> Vec<&'static str> {
    ["A", "B"].into_iter().filter(|node| runs(cluster.node(node), "looper").unwrap()).collect()
}

#[test]
fn a_killed_orchestrator_finishes_or_rolls_back_after_its_restart() {
    let cluster = cluster("orphan");
    slow(&cluster);
    let migration = begin_shipping(&cluster);
    cluster.lab().kill_orchestrator().unwrap();
    assert_eq!(running(&cluster), Vec::<&str>::new(), "frozen on A, held or not there on B");
    cluster.lab().start_orchestrator().unwrap();
    let migration = cluster.over(migration.id).unwrap();
    eprintln!("killed while moving: {} {:?}", migration.phase, migration.cause);
    let home = if migration.phase == Phase::Done { "B" } else { "A" };
    assert!(matches!(migration.phase, Phase::Done | Phase::RolledBack), "{migration:?}");
    assert_eq!(running(&cluster), [home]);
    cluster.wait_known("looper", home).unwrap();
    let numbers = looper::numbers(cluster.node(home), "looper").unwrap();
    looper::check_consecutive(&numbers).unwrap();

    // Again and again at other moments, without the slow link: each time exactly one looper goes on.
    cluster.node("A").limit_rate(None).unwrap();
    let mut home = home;
    for round in 0..4 {
        cluster.wait_active().unwrap();
        let away = if home == "A" { "B" } else { "A" };
        let id = cluster.begin("looper", away).unwrap().id;
        let phases = [Phase::Inspecting, Phase::Reserving, Phase::Moving, Phase::Resuming];
        // The phase may be over before it is looked at; then a later one is met, which is as good.
        let met = cluster.wait_migration(id, "the phase", |m| m.phase >= phases[round]).unwrap();
        cluster.lab().kill_orchestrator().unwrap();
        cluster.lab().start_orchestrator().unwrap();
        let migration = cluster.over(id).unwrap();
        eprintln!("killed at {}: {} {:?}", met.phase, migration.phase, migration.cause);
        home = if migration.phase == Phase::Done { away } else { home };
        assert_eq!(running(&cluster), [home]);
        cluster.wait_known("looper", home).unwrap();
        looper::check_consecutive(&looper::numbers(cluster.node(home), "looper").unwrap()).unwrap();
    }
}

#[test]
fn what_cannot_move_is_refused_with_its_reasons_and_nothing_changes() {
    let config = LabConfig::new(&format!("refused-{}", process::id()), &["A", "B"]);
    let cluster = Cluster::up(config, &mut |line| eprintln!("refused: {line}")).unwrap();
    let a = cluster.node("A");
    let cases: [(&str, &[&str], &str); 4] = [
        ("terminal", &["--tty"], "tty"),
        ("device", &["--device", "/dev/null:/dev/mydevice"], "device"),
        ("hostnet", &["--network", "host"], "network"),
        ("bind", &["--volume", "/tmp:/data"], "/tmp"),
    ];
    for (name, options, word) in cases {
        looper::run(a, name, options).unwrap();
        cluster.wait_known(name, "A").unwrap();
        let error = cluster.begin(name, "B").unwrap_err();
        let said = format!("{error:#}");
        eprintln!("{name}: {said}");
        assert!(said.to_lowercase().contains(word), "{word:?} is missing in {said:?}");
        assert_eq!(state(a, name).unwrap().as_deref(), Some("running"));
        assert_eq!(state(cluster.node("B"), name).unwrap(), None);
    }
}

/// The orchestrator is out of the source's reach for good; the destination is not, and knows enough.
#[test]
fn a_frozen_source_asks_its_peer_and_stays_frozen_when_nobody_answers() {
    let cluster = cluster("peer");
    slow(&cluster);
    let (a, outside) = (cluster.node("A"), cluster.lab().outside_address());
    let unreachable = |addresses: &str| {
        let rules = format!(
            "table inet fog_away {{
                chain from {{ type filter hook input priority 0; ip saddr {{ {addresses} }} drop; }}
                chain to {{ type filter hook output priority 0; ip daddr {{ {addresses} }} drop; }}
            }}"
        );
        a.run_with_input(&["nft", "-f", "-"], rules.as_bytes()).unwrap();
    };
    let reachable = || drop(a.run(&["nft", "delete", "table", "inet", "fog_away"]).unwrap());
    let doctor = || {
        let output = a.exec(&["/usr/local/bin/fog-agent", "doctor", "--output", "json"]).unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };

    eprintln!("== nobody can be reached: it stays frozen and says so");
    let migration = begin_shipping(&cluster);
    unreachable(&format!("{outside}, {}", cluster.node("B").address()));
    let id = migration.id;
    cluster.ask(|client| async move { client.cancel(id).await }).unwrap();
    let said = wait_until(DEADLINE, "the agent to say that it stays frozen", || {
        let said = doctor();
        Ok(said.contains("neither the orchestrator").then_some(said))
    });
    eprintln!("{}", said.unwrap().lines().find(|line| line.contains("neither")).unwrap());
    assert_eq!(state(a, "looper").unwrap().as_deref(), Some("paused"));

    eprintln!("== the destination can be reached: it has removed its copy, as only a roll back orders");
    reachable();
    unreachable(&outside);
    let runs_again = wait_until(DEADLINE, "the looper to run", || Ok(runs(a, "looper")?.then_some(())));
    runs_again.unwrap();
    let open = cluster.ask(|client| async move { client.migration(id).await }).unwrap();
    assert_eq!(open.phase, Phase::RollingBack, "the orchestrator has not seen it running");
    reachable();
    assert_eq!(cluster.over(id).unwrap().phase, Phase::RolledBack);
    a.limit_rate(None).unwrap();
    check_rolled_back(&cluster);
}
