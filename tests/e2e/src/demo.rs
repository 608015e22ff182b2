//! The scenario of the source thesis (section 4.6), with real load and nobody touching anything: machines A, B, C and D
//! are busy to 90 %, 65 %, 20 % and 15 % of their own CPU quota, D is far away. A must shed its looper, and to C.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use fog_api::client::MigrationFilter;
use fog_api::migration::{Migration, Phase};
use fog_lab::{Lab, LabConfig, NodeConfig, wait_until};

use tokio::signal::unix::{SignalKind, signal};

use crate::cluster::{self, Cluster, DEADLINE, leftovers};
use crate::looper;

const LOAD: [(&str, f64); 4] = [("A", 0.90), ("B", 0.65), ("C", 0.20), ("D", 0.15)];
const QUOTA: f64 = 0.5;
/// Each way: the orchestrator sees about 80 ms there and back.
const FAR: &str = "rate=20mbit,delay=40ms,jitter=2ms";
const WORKLOAD: &str = "looper";
const INSTEAD: &str = "`make demo-sim` shows the same decision with simulated nodes";
/// So many numbers are waited for after the move.
const COUNTED_ON: usize = 3;

struct Teller(Instant);

impl Teller {
    fn say(&self, line: &str) {
        println!("[{:5.1} s] {line}", self.0.elapsed().as_secs_f64());
    }
}

/// Plays the demo; ends it right after the move if `exit`, else keeps it running until Ctrl-C.
pub fn play(exit: bool) -> Result<()> {
    check_machine()?;
    let teller = Teller(Instant::now());
    let instance = format!("demo-{}", std::process::id());
    let mut config = LabConfig::new(&instance, &LOAD.map(|(name, _)| name));
    for node in &mut config.nodes {
        node.cpus = Some(QUOTA);
        node.labels.insert("site".into(), if node.name == "D" { "far" } else { "near" }.into());
    }
    far(&mut config.nodes)?;
    end_with_signal(&instance)?;
    let cluster = Cluster::up(config, &mut |line| teller.say(line))?;
    check_criu(&cluster)?;
    teller.say(&format!("four hosts report to the orchestrator: {}", cluster.lab().url()));

    for (node, utilization) in LOAD {
        cluster.lab().burn(node, utilization)?;
    }
    wait_load(&cluster)?;
    teller.say("A, B, C and D are as busy as in the thesis");
    looper::run(cluster.node("A"), WORKLOAD, &[])?;
    teller.say("the thesis's looper counts on A; from now on nobody touches anything");

    let migration = watch(&cluster, &teller)?;
    ensure!(migration.phase == Phase::Done, "the migration ended {}: {:?}", migration.phase, migration.cause);
    ensure!(migration.destination == "C", "the looper went to {} and not to C", migration.destination);
    ensure!(migration.asked_by == "policy", "the migration was asked for by {}", migration.asked_by);
    println!();
    explain(&cluster, &migration)?;
    check_numbers(&cluster, &migration)?;
    for node in ["A", "C"] {
        let left = leftovers(cluster.node(node))?;
        ensure!(left.is_empty(), "the migration left behind on {node}: {}", left.join(", "));
    }
    println!();
    teller.say("done: the looper moved by itself, no number missing or repeated");
    if !exit {
        keep_running(&cluster);
    }
    Ok(())
}

fn far(nodes: &mut [NodeConfig]) -> Result<()> {
    for node in nodes.iter_mut().filter(|node| node.name == "D") {
        node.link = FAR.parse()?;
    }
    Ok(())
}

/// One sentence about what is missing, before anything is started.
fn check_machine() -> Result<()> {
    ensure!(cfg!(target_os = "linux"), "containers move only on Linux; {INSTEAD}");
    ensure!(rustix::process::geteuid().is_root(), "real hosts need root: run it as root, or {INSTEAD}");
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let version: Vec<u32> = kernel.split(['.', '-']).map_while(|part| part.parse().ok()).take(2).collect();
    ensure!(version >= vec![5, 9], "CRIU needs Linux 5.9 or newer and this is {kernel}; {INSTEAD}");
    Ok(())
}

fn check_criu(cluster: &Cluster) -> Result<()> {
    let output = cluster.node("A").exec(&["criu", "check"])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = said.lines().last().unwrap_or("it did not say why");
    ensure!(output.status.success(), "CRIU cannot work on this kernel ({last}); {INSTEAD}");
    Ok(())
}

fn wait_load(cluster: &Cluster) -> Result<()> {
    let mut last = String::new();
    let settled = wait_until(DEADLINE, "the nodes to be as busy as asked", || {
        let nodes = cluster.ask(|client| async move { client.nodes().await })?;
        let sustained = |name: &str| {
            let node = nodes.items.iter().find(|node| node.name == name);
            node.and_then(|node| node.utilization.as_ref()).map_or(0.0, |utilization| utilization.cpu_sustained)
        };
        last = LOAD.iter().map(|(name, _)| format!("{name} {:.0} %  ", sustained(name) * 100.0)).collect();
        Ok(LOAD.iter().all(|(name, wanted)| (sustained(name) - wanted).abs() < 0.05).then_some(()))
    });
    settled.with_context(|| format!("they were: {last}"))
}

/// Follows what happens, and says it.
fn watch(cluster: &Cluster, teller: &Teller) -> Result<Migration> {
    let mut said = String::new();
    wait_until(DEADLINE, "the orchestrator to move the looper by itself", || {
        let nodes = cluster.ask(|client| async move { client.nodes().await })?;
        let filter = MigrationFilter { workload: Some(WORKLOAD.to_owned()), limit: None };
        let migrations = cluster.ask(|client| async move { client.migrations(&filter).await })?;
        let line = match migrations.items.first() {
            Some(migration) => format!("looper {} → {}: {}", migration.source, migration.destination, migration.phase),
            None => {
                let cpu = |node: &fog_api::node::Node| {
                    let utilization = node.utilization.as_ref().map_or(0.0, |utilization| utilization.cpu_sustained);
                    format!("{} {:.0} %", node.name, utilization * 100.0)
                };
                nodes.items.iter().map(cpu).collect::<Vec<_>>().join("   ")
            }
        };
        if line != said {
            teller.say(&line);
            said = line;
        }
        Ok(migrations.items.into_iter().next().filter(|migration| migration.phase.is_over()))
    })
}

/// The decision and the migration, in the command line's own words.
fn explain(cluster: &Cluster, migration: &Migration) -> Result<()> {
    let status =
        cluster.fogctl()?.args(["explain", &migration.id.to_string()]).status().context("cannot run fogctl")?;
    ensure!(status.success(), "fogctl explain failed");
    Ok(())
}

fn check_numbers(cluster: &Cluster, migration: &Migration) -> Result<()> {
    let node = cluster.node("C");
    let moved = migration.phases.iter().find(|entry| entry.phase == Phase::Moving).context("it never moved")?.at;
    // Docker stamps each line with the time at which the container printed it.
    let stamped = wait_until(DEADLINE, "the looper to go on counting on C", || {
        let log = node.run(&["docker", "logs", "--timestamps", WORKLOAD])?;
        let lines: Vec<(jiff::Timestamp, String)> = log
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter_map(|(stamp, number)| Some((stamp.parse().ok()?, number.trim().to_owned())))
            .collect();
        Ok((lines.iter().filter(|(at, _)| *at > moved).count() >= COUNTED_ON).then_some(lines))
    })?;
    println!("\nThe looper's output, as `docker logs` on C shows it:");
    let first_after = stamped.iter().position(|(at, _)| *at > moved).unwrap_or(stamped.len());
    for (index, (at, number)) in stamped.iter().enumerate().skip(first_after.saturating_sub(COUNTED_ON)) {
        let place = if index < first_after { "A" } else { "C" };
        println!("  {}  on {place}  {number}", at.strftime("%H:%M:%S%.3f"));
    }
    let numbers = looper::numbers(node, WORKLOAD)?;
    looper::check_consecutive(&numbers).context("the looper's numbers are not consecutive")?;
    ensure!(numbers.len() > stamped.len().min(first_after), "the looper printed nothing on C");
    match (cluster::state(cluster.node("A"), WORKLOAD)?, cluster::state(node, WORKLOAD)?.as_deref()) {
        (None, Some("running")) => Ok(()),
        (on_a, on_c) => bail!("Docker says: on A {on_a:?}, on C {on_c:?}"),
    }
}

fn keep_running(cluster: &Cluster) -> ! {
    println!("\nIt keeps running. Open {} in a browser; end with Ctrl-C.", cluster.lab().url());
    println!("  eval \"$(target/release/fog-lab env --instance {})\"   # then: fogctl nodes", cluster.lab().instance());
    loop {
        std::thread::park();
    }
}

/// A signal ends the hosts too, whatever is going on.
fn end_with_signal(instance: &str) -> Result<()> {
    let instance = instance.to_owned();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().context("cannot wait for signals")?;
    std::thread::spawn(move || {
        let signalled = runtime.block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            tokio::select! {
                result = tokio::signal::ctrl_c() => result,
                _ = terminate.recv() => Ok(()),
            }
        });
        println!("\nending the hosts …");
        let ended = signalled.map_err(Into::into).and_then(|()| Lab::down_instance(&instance));
        if let Err(error) = &ended {
            eprintln!("{error:#}");
        }
        std::process::exit(if ended.is_ok() { 130 } else { 1 });
    });
    Ok(())
}
