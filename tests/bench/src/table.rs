//! Every figure that is promised of a move, in one run: ours, bare CRIU's, podman's and stock Docker's in turn on the same
//! hosts.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;
use fog_api::migration::Strategy;
use fog_e2e::cluster::Cluster;
use fog_lab::{CgroupVersion, LabConfig, Suite};
use serde::Serialize;

use crate::bare::{self, Bare};
use crate::moves::{self, Move, settle, turns};
use crate::peers::Peer;
use crate::redis::{self, Redis};
use crate::report::Spread;
use crate::ticker;

const SMALL: u32 = 4;
const LARGE: u32 = 1024;
/// Pages that the changing ticker changes in a millisecond: about 16 MB/s.
const CHANGED: u32 = 4;
const PAGE: f64 = 4096.0;
const MIB: f64 = 1_048_576.0;

#[derive(Debug, Args)]
pub struct Asked {
    /// Moves for each of our rows, there and back in turn.
    #[arg(long, default_value_t = 20)]
    moves: u32,
    /// Moves of 1 GiB by podman, which takes some fifteen seconds for each; stock Docker, which takes three times that, is
    /// given a third of them.
    #[arg(long, default_value_t = 6)]
    peer_moves: u32,
    /// Leave the peers out: for work on our own figures.
    #[arg(long)]
    alone: bool,
    /// Where the raw figures go, as JSON.
    #[arg(long, default_value = "tests/bench/results/table.json")]
    out: PathBuf,
}

/// All raw figures.
#[derive(Debug, Default, Serialize)]
struct Figures {
    commit: String,
    began: String,
    kernel: String,
    cpus: usize,
    load_before: String,
    load_after: String,
    took_s: f64,
    docker_28: Hosts,
    docker_26: Hosts,
    redis: Option<Redis>,
    /// Post-copy of 1 GiB over a link of 1 Gbit/s.
    gigabit: Vec<Move>,
    /// Hybrid moves of a ticker that changes its memory; and pages that it changes a second.
    changing: Vec<Changing>,
    podman_small_ms: Vec<f64>,
    podman_large_ms: Vec<f64>,
    docker_small_ms: Vec<f64>,
    docker_large_ms: Vec<f64>,
}

/// Ours on one kind of hosts.
#[derive(Debug, Default, Serialize)]
struct Hosts {
    bare: Vec<Bare>,
    small: Vec<Move>,
    small_post_copy: Vec<Move>,
    small_hybrid: Vec<Move>,
    large_stop: Vec<Move>,
    large_post_copy: Vec<Move>,
    large_hybrid: Vec<Move>,
}

#[derive(Debug, Serialize)]
struct Changing {
    pages_a_second: f64,
    one: Move,
}

fn cluster(name: &str, suite: Suite, packages: &[&str], experimental: bool) -> Result<Cluster> {
    let mut config = LabConfig::new(&format!("{name}-{}", std::process::id()), &["A", "B"]);
    for node in &mut config.nodes {
        (node.suite, node.cgroup) = (suite, Some(CgroupVersion::V2));
    }
    config.packages = packages.iter().map(|name| (*name).to_owned()).collect();
    if experimental {
        config.docker_options.insert("experimental".to_owned(), true.into());
    }
    let cluster = Cluster::up(config, &mut |line| eprintln!("{line}"))?;
    cluster.lab().load_image(&ticker::image()?).context("cannot load the ticker's image")?;
    Ok(cluster)
}

/// Ours in turn with others, one of each a turn, for as many turns as there are moves.
fn in_turn(
    cluster: &Cluster,
    mib: u32,
    asked: u32,
    strategy: Strategy,
    mut others: impl FnMut(u32, &str) -> Result<()>,
) -> Result<Vec<Move>> {
    moves::run(cluster.node("A"), mib, 0)?;
    let mut found = Vec::new();
    for (turn, (from, to)) in (0..).zip(turns(asked)) {
        cluster.wait_known(moves::NAME, from)?;
        settle();
        others(turn, from)?;
        settle();
        found.push(moves::one(cluster, to, strategy)?);
    }
    moves::end(cluster)?;
    Ok(found)
}

pub fn table(asked: &Asked) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "real hosts need root: run it as root");
    ensure!(asked.moves > 0 && asked.peer_moves > 0, "nothing to measure: use --moves 1 or more");
    let began = Instant::now();
    let load = || std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned();
    let mut figures = Figures {
        commit: said(Command::new("git").args(["rev-parse", "--short", "HEAD"])),
        began: said(Command::new("date").args(["--utc", "+%Y-%m-%dT%H:%M:%SZ"])),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        cpus: std::thread::available_parallelism().map_or(0, usize::from),
        load_before: load(),
        ..Figures::default()
    };
    docker_28(asked, &mut figures)?;
    docker_26(asked, &mut figures)?;
    (figures.load_after, figures.took_s) = (load(), began.elapsed().as_secs_f64());
    std::fs::write(&asked.out, serde_json::to_string_pretty(&figures)?)
        .with_context(|| format!("{} cannot be written", asked.out.display()))?;
    print!("{}", figures.table()?);
    Ok(())
}

fn said(command: &mut Command) -> String {
    command.output().map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

fn docker_28(asked: &Asked, figures: &mut Figures) -> Result<()> {
    let packages: &[&str] = if asked.alone { &[] } else { &["podman"] };
    let cluster = cluster("bench-28", Suite::Forky, packages, false)?;
    let (a, b) = (cluster.node("A"), cluster.node("B"));
    if !asked.alone {
        Peer::Podman.prepare([a, b])?;
    }
    let hosts = &mut figures.docker_28;
    hosts.small = in_turn(&cluster, SMALL, asked.moves, Strategy::StopAndCopy, |_, from| {
        hosts.bare.push(bare::measure(cluster.node(from), SMALL)?);
        if !asked.alone {
            figures.podman_small_ms.push(Peer::Podman.measure(a, b, SMALL)?);
        }
        Ok(())
    })?;
    let nobody = |_: u32, _: &str| Ok(());
    hosts.small_post_copy = in_turn(&cluster, SMALL, asked.moves, Strategy::PostCopy, nobody)?;
    hosts.small_hybrid = in_turn(&cluster, SMALL, asked.moves, Strategy::Hybrid, nobody)?;
    hosts.large_stop = in_turn(&cluster, LARGE, asked.moves, Strategy::StopAndCopy, |turn, _| {
        if turn < asked.peer_moves && !asked.alone {
            figures.podman_large_ms.push(Peer::Podman.measure(a, b, LARGE)?);
        }
        Ok(())
    })?;
    hosts.large_post_copy = in_turn(&cluster, LARGE, asked.moves, Strategy::PostCopy, nobody)?;
    hosts.large_hybrid = in_turn(&cluster, LARGE, asked.moves, Strategy::Hybrid, nobody)?;

    moves::run(a, LARGE, CHANGED)?;
    for (from, to) in turns(asked.moves.min(6)) {
        cluster.wait_known(moves::NAME, from)?;
        settle();
        let pages_a_second = ticker::changed_a_second(cluster.node(from), moves::NAME)?;
        figures.changing.push(Changing { pages_a_second, one: moves::one(&cluster, to, Strategy::Hybrid)? });
    }
    moves::end(&cluster)?;

    for node in [a, b] {
        node.limit_rate(Some("1gbit"))?;
    }
    figures.gigabit = in_turn(&cluster, LARGE, asked.moves.min(2), Strategy::PostCopy, nobody)?;
    for node in [a, b] {
        node.limit_rate(None)?;
    }
    figures.redis = Some(redis::measure(&cluster, asked.moves, Strategy::PostCopy)?);
    Ok(())
}

fn docker_26(asked: &Asked, figures: &mut Figures) -> Result<()> {
    let cluster = cluster("bench-26", Suite::Trixie, &[], true)?;
    let (a, b) = (cluster.node("A"), cluster.node("B"));
    let hosts = &mut figures.docker_26;
    hosts.small = in_turn(&cluster, SMALL, asked.moves, Strategy::StopAndCopy, |_, from| {
        hosts.bare.push(bare::measure(cluster.node(from), SMALL)?);
        if !asked.alone {
            figures.docker_small_ms.push(Peer::Docker.measure(a, b, SMALL)?);
        }
        Ok(())
    })?;
    if !asked.alone {
        for _ in 0..asked.peer_moves.div_ceil(3) {
            figures.docker_large_ms.push(Peer::Docker.measure(a, b, LARGE)?);
        }
    }
    Ok(())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    Spread::of(values).median
}

fn gap(moves: &[Move]) -> f64 {
    median(moves.iter().map(|one| one.gap_ms))
}

fn frozen_sent(one: &Move) -> f64 {
    one.migration.memory.as_ref().map_or(f64::NAN, |memory| memory.frozen_sent_bytes as f64)
}

fn drain_rate(moves: &[Move]) -> f64 {
    median(moves.iter().filter_map(|one| {
        let memory = one.migration.memory.as_ref()?;
        Some(memory.frozen_sent_bytes as f64 / memory.drain_ms? / 1e3)
    }))
}

impl Changing {
    /// Bytes that went over the network in the freeze, over what was changed since the last round began; without the one
    /// MiB that is allowed for CRIU's images.
    fn ratio(&self) -> f64 {
        let migration = &self.one.migration;
        let round =
            migration.memory.as_ref().and_then(|memory| memory.rounds.last()).map_or(f64::NAN, |last| last.took_ms);
        let freeze = migration.stages_ms.get(&fog_api::agent::Stage::Freeze).copied().unwrap_or_default();
        let changed = self.pages_a_second * (round + freeze) / 1e3 * PAGE;
        (frozen_sent(&self.one) + migration.checkpoint_bytes.unwrap_or_default() as f64 - MIB) / changed
    }
}

impl Figures {
    fn table(&self) -> Result<String> {
        let mut text = String::new();
        let (new, old) = (&self.docker_28, &self.docker_26);
        writeln!(
            text,
            "Commit {}, {}, Linux {}, {} CPUs; load {} before, {} after; took {:.0} s. Medians of {} moves (podman 1 GiB: {}, \
             stock Docker 1 GiB: {}).\n",
            self.commit,
            self.began,
            self.kernel,
            self.cpus,
            self.load_before,
            self.load_after,
            self.took_s,
            new.small.len(),
            self.podman_large_ms.len(),
            self.docker_large_ms.len()
        )?;
        writeln!(text, "| | goal | Fogshift | met | bare CRIU | podman | stock Docker 26 | ratio |")?;
        writeln!(text, "|---|---|---|---|---|---|---|---|")?;
        let (bare_new, bare_old) =
            (median(new.bare.iter().map(|one| one.gap_ms)), median(old.bare.iter().map(|one| one.gap_ms)));
        let (podman, podman_gib) =
            (median(self.podman_small_ms.iter().copied()), median(self.podman_large_ms.iter().copied()));
        let (stock, stock_gib) =
            (median(self.docker_small_ms.iter().copied()), median(self.docker_large_ms.iter().copied()));
        let small = gap(&new.small);
        let mut row = |what: &str, goal: &str, ours: String, met: bool, others: [String; 3], ratio: String| {
            let met = if met { "yes" } else { "no" };
            writeln!(text, "| {what} | {goal} | {ours} | {met} | {} | {ratio} |", others.join(" | "))
        };
        let ms = |value: f64| if value.is_nan() { String::new() } else { format!("{value:.0} ms") };
        let none = || [String::new(), String::new(), String::new()];
        for (suite, ours, bare, podman, stock) in [
            ("Docker 28", small, bare_new, podman, f64::NAN),
            ("Docker 26", gap(&old.small), bare_old, f64::NAN, stock),
        ] {
            row(
                &format!("downtime, 4 MiB, {suite}"),
                "at most 150 ms",
                ms(ours),
                ours <= 150.0,
                [ms(bare), ms(podman), ms(stock)],
                String::new(),
            )?;
            row(
                &format!("the same, over bare CRIU, {suite}"),
                "at most 1.5",
                format!("{:.2}", ours / bare),
                ours / bare <= 1.5,
                none(),
                format!("{:.2}", ours / bare),
            )?;
        }
        for (strategy, ours, base) in [
            ("post-copy", gap(&new.large_post_copy), gap(&new.small_post_copy)),
            ("hybrid", gap(&new.large_hybrid), gap(&new.small_hybrid)),
        ] {
            row(
                &format!("downtime, 1 GiB, {strategy}"),
                "at most 1.3 times that of 4 MiB",
                format!("{} ({:.2} × {})", ms(ours), ours / base, ms(base)),
                ours / base <= 1.3,
                [String::new(), ms(podman_gib), ms(stock_gib)],
                format!("{:.2}", ours / base),
            )?;
            let (over_podman, over_stock) = (podman_gib / ours, stock_gib / ours);
            row(
                &format!("the same, shorter than the peers', {strategy}"),
                "at least 60 times",
                format!("{over_podman:.0} and {over_stock:.0} times"),
                over_podman >= 60.0 && over_stock >= 60.0,
                none(),
                format!("{over_podman:.0}, {over_stock:.0}"),
            )?;
        }
        let stop = gap(&new.large_stop);
        row(
            "downtime, 1 GiB, stop-and-copy",
            "at least 8 times shorter than podman's",
            ms(stop),
            podman_gib / stop >= 8.0,
            [String::new(), ms(podman_gib), ms(stock_gib)],
            format!("{:.1}", podman_gib / stop),
        )?;
        let rate = drain_rate(&new.large_post_copy);
        row(
            "pages after post-copy",
            "at least 600 MB/s",
            format!("{rate:.0} MB/s"),
            rate >= 600.0,
            none(),
            String::new(),
        )?;
        let gigabit = drain_rate(&self.gigabit);
        row(
            "the same over 1 Gbit/s",
            "line rate (125 MB/s with headers; 95 % counts)",
            format!("{gigabit:.0} MB/s"),
            gigabit >= 0.95 * 125.0 * 0.941,
            none(),
            format!("{:.2}", gigabit / (125.0 * 0.941)),
        )?;
        let changed = median(self.changing.iter().map(Changing::ratio));
        let bytes = median(self.changing.iter().map(|one| frozen_sent(&one.one)));
        row(
            "bytes in the freeze, hybrid, less 1 MiB, over what was changed",
            "at most 1.3",
            format!("{changed:.2} ({:.1} MiB)", bytes / MIB),
            changed <= 1.3,
            none(),
            format!("{changed:.2}"),
        )?;
        if let Some(redis) = &self.redis {
            let spread = Spread::of(redis.worst_ms.iter().copied());
            row(
                "Redis, 1 GiB, one connection: worst stall",
                "at most 300 ms, nothing lost or repeated",
                format!("median {:.0} ms, worst {:.0} ms; {} operations", spread.median, spread.max, redis.operations),
                spread.max <= 300.0,
                none(),
                String::new(),
            )?;
        }
        for (strategy, moves) in
            [("stop-and-copy", &new.large_stop), ("post-copy", &new.large_post_copy), ("hybrid", &new.large_hybrid)]
        {
            let cpu = median(moves.iter().map(|one| one.cost.cpu_s));
            let memory = Spread::of(moves.iter().map(|one| one.cost.agent_mib)).max;
            row(
                &format!("CPU of both nodes, 1 GiB, {strategy}"),
                "at most 1 s a GiB",
                format!("{cpu:.2} s"),
                cpu <= 1.0,
                none(),
                String::new(),
            )?;
            row(
                &format!("an agent's memory above idle, 1 GiB, {strategy}"),
                "at most 64 MiB",
                format!("at most {memory:.0} MiB"),
                memory <= 64.0,
                none(),
                String::new(),
            )?;
        }
        Ok(text)
    }
}
