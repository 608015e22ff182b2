//! `fog-soak`: hours of clusters that do not exist, in seconds.
//!
//! One process simulates one cluster at a time: three nodes, four workloads, the real orchestrator and the real agents on
//! one thread. What happens, and when, follows from the seed alone: the same seed gives the same trace, byte for byte.
//!
//! | real | simulated |
//! |---|---|
//! | the whole orchestrator: channel, ingest, fleet, planner, driver, proposals, HTTP routes, fog-core | sockets (`network.rs`): bytes in order, late, cut, reset |
//! | its store: SQLite, every statement | when the disk gets to it (`disk.rs`) |
//! | the agents' channel, outbox, back-off | what they measure |
//! | the engine's fence, journal, lanes, repetition and stored answers, recovery after a start | |
//! | `thaw`, `abandon`, `resume`, `discard`, `settle`, all of each | Docker, processes, memory (`cluster.rs`, `world.rs`) |
//! | | the bodies of `inspect`, `reserve`, `ship`, `restore`, with the notes in the journal that the real ones make |
//! | | time and randomness, below everything (`clock.rs`) |
//!
//! Nothing of the real ones is a copy: they are the crates that the programs are made of. A crash is what the disk holds at
//! that moment, copied, under a new life; the old life's tasks are cut off from everything.
//!
//! **What could make two runs differ, and what keeps it from it.** Clocks, hash maps' keys, `select!`, UUIDs, jitter: the C
//! library's functions are ours. Threads: none but the database's, one at a time and only while the simulation waits
//! (`threads.rs`); what the programs do on other threads they do in place in a runtime of one (`engine::blocking`,
//! `aside.rs`). The order of a folder's files: the folder is in memory (`/dev/shm`), where it is that of their making; on
//! a disk it may differ. `fog-soak prove` runs seeds twice and compares. Another build of the programs is another trace.

mod agent;
mod clock;
mod cluster;
mod disk;
mod network;
mod orchestrator;
mod promise;
mod run;
mod threads;
mod world;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand, ValueEnum};
use cluster::Broken;
use serde_json::{Value, json};

/// Hours of one run, after which a fresh cluster begins.
const EACH: u64 = 10;
/// A run of so many hours takes seconds: one that takes longer than this stands still.
const STANDS_STILL: Duration = Duration::from_secs(900);
/// A broken variant has to be caught within so many hours.
const CAUGHT_WITHIN: u64 = 60;

/// Simulates clusters with faults of every kind and looks whether every promise is kept.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Many clusters, one after the other.
    Soak {
        /// Hours of all of them together.
        #[arg(long, default_value_t = 1000)]
        hours: u64,
        /// The first one's seed; the others count on from it.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How many at once.
        #[arg(long, default_value_t = 2)]
        jobs: u64,
        /// Without this rule.
        #[arg(long)]
        broken: Option<Broken>,
        /// Where the figures go, as JSON.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// One cluster.
    One {
        /// Its seed.
        #[arg(long)]
        seed: u64,
        /// For so long.
        #[arg(long, default_value_t = EACH)]
        hours: u64,
        /// Without this rule.
        #[arg(long)]
        broken: Option<Broken>,
        /// Print the whole trace.
        #[arg(long)]
        tell: bool,
    },
    /// The same seed gives the same trace, and every broken variant is caught.
    Prove,
}

fn main() -> ExitCode {
    let ended = match Arguments::parse().what {
        What::Soak { hours, seed, jobs, broken, out } => soak(hours, seed, jobs, broken, out.as_deref()),
        What::One { seed, hours, broken, tell } => one(seed, hours, broken, tell),
        What::Prove => prove(),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("fog-soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn one(seed: u64, hours: u64, broken: Option<Broken>, tell: bool) -> anyhow::Result<bool> {
    if std::env::var_os("RUST_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory)? } else { tempfile::tempdir()? };
    // The only thread that lives in real time.
    std::thread::spawn(move || {
        std::thread::sleep(STANDS_STILL * hours.div_ceil(EACH).max(1) as u32);
        eprintln!("Seed {seed} stands still. To see it again: {}", replay(seed, hours, broken));
        std::process::exit(124);
    });
    clock::enter(seed);
    static BEGAN: OnceLock<tokio::time::Instant> = OnceLock::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .global_queue_interval(u32::MAX)
        .on_thread_park(|| disk::DISK.work())
        .on_thread_unpark(|| {
            if let Some(began) = BEGAN.get() {
                clock::set(began.elapsed());
            }
        })
        .build()?;
    let result = runtime.block_on(async {
        BEGAN.get_or_init(tokio::time::Instant::now);
        run::run(seed, hours, broken, tell, folder.path()).await
    })?;
    let run::Result { hash, events, done, rolled_back, failed, faults, violations, lines } = result;
    for line in &lines {
        println!("{line}");
    }
    println!(
        "{}",
        json!({"seed": seed, "hash": format!("{hash:016x}"), "events": events, "done": done, "rolled_back": rolled_back,
            "failed": failed, "faults": faults, "violations": violations})
    );
    // The dead lives' tasks are not waited for.
    std::mem::forget(runtime);
    drop(folder);
    Ok(violations.is_empty())
}

/// Runs one cluster in a process of its own: what it printed, and the last line of it.
fn child(seed: u64, hours: u64, broken: Option<Broken>) -> anyhow::Result<(String, Value)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["one", "--seed", &seed.to_string(), "--hours", &hours.to_string()]);
    if let Some(name) = broken.and_then(|broken| broken.to_possible_value()) {
        command.args(["--broken", name.get_name()]);
    }
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = text.lines().last().and_then(|line| serde_json::from_str(line).ok());
    let last =
        last.ok_or_else(|| anyhow::anyhow!("{} said nothing, {}", replay(seed, hours, broken), output.status))?;
    Ok((text, last))
}

fn replay(seed: u64, hours: u64, broken: Option<Broken>) -> String {
    let name = broken.and_then(|broken| Some(format!(" --broken {}", broken.to_possible_value()?.get_name())));
    format!(
        "cargo run --release -p fog-simulation -- one --seed {seed} --hours {hours} --tell{}",
        name.unwrap_or_default()
    )
}

fn count(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_default()
}

/// The commit that this was built from, as far as git knows.
fn commit() -> Option<String> {
    let output = Command::new("git").args(["describe", "--always", "--dirty", "--exclude=*"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn soak(hours: u64, seed: u64, jobs: u64, broken: Option<Broken>, out: Option<&Path>) -> anyhow::Result<bool> {
    let began = Instant::now();
    let wanted = hours;
    let runs = hours.div_ceil(EACH).max(1);
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let (results, all) = mpsc::channel();
    let mut sums = [("done", 0), ("rolled_back", 0), ("failed", 0), ("faults", 0), ("events", 0)];
    let mut bad = None;
    let mut ran = 0;
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            let (results, next, stop) = (results.clone(), &next, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let run = next.fetch_add(1, Ordering::Relaxed);
                    if run >= runs {
                        return;
                    }
                    let hours = EACH.min(hours - run * EACH);
                    if results.send((seed + run, hours, child(seed + run, hours, broken))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(results);
        let mut told = Instant::now();
        for (seed, hours, result) in &all {
            match result {
                Ok((text, last)) if last["violations"].as_array().is_none_or(|all| !all.is_empty()) => {
                    bad.get_or_insert((seed, hours, text));
                    stop.store(true, Ordering::Relaxed);
                }
                Ok((_, last)) => {
                    ran += hours;
                    sums.iter_mut().for_each(|(key, sum)| *sum += count(&last, key));
                }
                Err(error) => {
                    bad.get_or_insert((seed, hours, format!("{error:#}")));
                    stop.store(true, Ordering::Relaxed);
                }
            }
            if told.elapsed() > Duration::from_secs(30) {
                told = Instant::now();
                println!("{ran} of {wanted} hours of clusters in {:.0} s", began.elapsed().as_secs_f64());
            }
        }
    });
    let [done, rolled_back, failed, faults, events] = sums.map(|(_, sum)| sum);
    println!(
        "{ran} hours of clusters in {:.0} s, {:.0} a minute: {} migrations ({done} done, {rolled_back} rolled back, {failed} failed: removed, \
         stopped or declared lost), {faults} faults, {events} events, {} promises broken",
        began.elapsed().as_secs_f64(),
        ran as f64 * 60.0 / began.elapsed().as_secs_f64(),
        done + rolled_back + failed,
        u8::from(bad.is_some())
    );
    if let Some((seed, hours, text)) = &bad {
        println!("{text}\nSeed {seed} breaks a promise. To see it again: {}", replay(*seed, *hours, broken));
    }
    if let Some(file) = out {
        let took = began.elapsed().as_secs_f64();
        let figures = json!({
            "date": jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(), "commit": commit(),
            "hours": ran, "seeds": {"first": seed, "last": seed + runs - 1, "hours_each": EACH},
            "migrations": {"done": done, "rolled_back": rolled_back, "failed": failed},
            "faults": faults, "events": events, "promises_broken": u8::from(bad.is_some()),
            "seconds": took.round(), "hours_per_minute": (ran as f64 * 60.0 / took).round(), "at_once": jobs,
        });
        std::fs::write(file, format!("{figures:#}\n"))?;
    }
    Ok(bad.is_none())
}

fn prove() -> anyhow::Result<bool> {
    let mut good = true;
    for seed in 1..=8 {
        let (first, second) = std::thread::scope(|scope| {
            let other = scope.spawn(|| child(seed, 4, None));
            (child(seed, 4, None), other.join())
        });
        let second = second.map_err(|_| anyhow::anyhow!("the second run panicked"))?;
        let (first, second) = (first?.1, second?.1);
        let same = first == second;
        println!("seed {seed} twice: {} and {}, {} events", first["hash"], second["hash"], first["events"]);
        if !same {
            println!("They differ. To see it again, twice: {}", replay(seed, 4, None));
        }
        good &= same;
    }
    for broken in Broken::value_variants() {
        let began = Instant::now();
        let mut caught = None;
        let mut hours = 0;
        while caught.is_none() && hours < CAUGHT_WITHIN {
            let seed = 100 + hours;
            let (_, last) = child(seed, EACH, Some(*broken))?;
            hours += EACH;
            caught = last["violations"].as_array().and_then(|all| Some(all.first()?.to_string()));
        }
        good &= caught.is_some();
        match caught {
            Some(what) => {
                println!("{broken:?} is caught within {hours} h ({:.1} s): {what}", began.elapsed().as_secs_f64())
            }
            None => println!("{broken:?} is NOT caught in {hours} h"),
        }
    }
    Ok(good)
}
