//! `docs/tour.md` holds: every command in it is run, and what it prints is what stands there.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fog_api::client::Client;
use fog_orchestrator::config::Config;
use fog_orchestrator::service;
use fog_sim::node::{Load, SimNode};
use fog_sim::world::World;

const DEADLINE: Duration = Duration::from_secs(60);
/// Stands for any text, over several lines where it has one for itself.
const ANYTHING: &str = "…";

const POLICY: &str = "[sampling]
interval_s = 0.2
window = 3
[heartbeat]
interval_s = 0.2
suspect_s = 20.0
offline_s = 40.0
[overload.cpu]
start = 0.95
done = 0.9
";

/// A command with what it is to print.
struct Step {
    command: String,
    expected: Vec<String>,
    line: usize,
}

fn steps(tour: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for (number, line) in tour.lines().enumerate() {
        match line {
            "```console" => inside = true,
            "```" => inside = false,
            line if inside => match line.strip_prefix("$ ") {
                Some(command) => {
                    steps.push(Step { command: command.to_owned(), expected: Vec::new(), line: number + 1 });
                }
                None => steps.last_mut().expect("a block begins with a command").expected.push(line.to_owned()),
            },
            _ => {}
        }
    }
    steps
}

/// A line matches if its parts between the placeholders come in their order; blanks count as one.
fn matches_line(pattern: &str, line: &str) -> bool {
    let blanks = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (pattern, line) = (blanks(pattern), blanks(line));
    let parts: Vec<&str> = pattern.split(ANYTHING).map(str::trim).collect();
    let [first, .., last] = parts.as_slice() else { return pattern == line };
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    for part in &parts[1..parts.len() - 1] {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

fn matches(pattern: &[String], lines: &[&str]) -> bool {
    match (pattern.split_first(), lines.split_first()) {
        (None, None) => true,
        (Some((first, others)), _) if first.trim() == ANYTHING => {
            (0..=lines.len()).any(|skipped| matches(others, &lines[skipped..]))
        }
        (Some((first, others)), Some((line, rest))) => matches_line(first, line) && matches(others, rest),
        _ => false,
    }
}

/// A command line as a shell takes it, with double quotes only.
fn words(command: &str) -> Vec<String> {
    let quoted = command.split('"').enumerate();
    quoted
        .flat_map(|(at, part)| match at % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect::<Vec<_>>(),
            _ => vec![part.to_owned()],
        })
        .collect()
}

fn run(step: &Step, folder: &Path, url: &str, token: &str) -> Vec<String> {
    let words = words(&step.command);
    assert_eq!(words[0], "fogctl", "line {}: the tour shows fogctl only", step.line);
    let output = Command::new(env!("CARGO_BIN_EXE_fogctl"))
        .args(&words[1..])
        .current_dir(folder)
        .env("FOG_URL", url)
        .env("FOG_TOKEN", token)
        .env_remove("FOG_TOKEN_FILE")
        .output()
        .unwrap();
    let mut shown: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    // What is said beside the result belongs to the tour only where it is the answer.
    if !output.status.success() {
        shown.extend(String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned));
        shown.push(format!("[{}]", output.status.code().unwrap()));
    }
    shown
}

async fn until(client: &Client, what: &str, is: impl Fn(&[fog_api::workload::Workload], usize) -> bool) {
    let begin = Instant::now();
    loop {
        let (nodes, workloads) = (client.nodes().await.unwrap(), client.workloads(None).await.unwrap());
        let measured = nodes.items.iter().filter(|node| node.utilization.is_some()).count();
        if is(&workloads.items, measured) {
            return;
        }
        assert!(begin.elapsed() < DEADLINE, "{what}: {workloads:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tour_is_as_it_is_written() {
    let tour = include_str!("../../../docs/tour.md");
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("in-force.toml");
    std::fs::write(&policy, POLICY).unwrap();
    std::fs::write(folder.path().join("policy.toml"), POLICY.replace("0.95", "0.92")).unwrap();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let data_dir = folder.path().join("data");
    let config =
        Config { listen: vec![address], data_dir: data_dir.clone(), policy: Some(policy), ..Config::default() };
    let serving = tokio::spawn(service::run(config));
    let url = format!("http://{address}");
    let reader = Client::new(&url, None).unwrap();
    let begin = Instant::now();
    while reader.ready().await.is_err() {
        assert!(begin.elapsed() < DEADLINE && !serving.is_finished(), "the orchestrator does not start");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let token = std::fs::read_to_string(data_dir.join("token")).unwrap().trim().to_owned();
    let world = Arc::new(World::default());
    let mut nodes = Vec::new();
    for (name, cpu) in [("A", 0.5), ("B", 0.2), ("C", 0.1)] {
        let rtt_ms = ["A", "B", "C"].iter().filter(|to| **to != name).map(|to| ((*to).to_owned(), 2.0));
        let load = Load { cpu, memory: 0.3, rtt_ms: rtt_ms.collect::<BTreeMap<_, _>>() };
        let node = SimNode::new(name, load, &world, Duration::from_millis(200));
        nodes.push(tokio::spawn(node.run(url.clone(), token.clone())));
    }
    for (workload, node) in [("web", "A"), ("db", "A"), ("shop", "B")] {
        world.run(node, workload);
    }
    let client = Client::new(&url, Some(&token)).unwrap();
    until(&client, "all is there", |workloads, measured| workloads.len() == 3 && measured == 3).await;

    let steps = steps(tour);
    assert!(steps.len() > 20, "the tour is read");
    for step in &steps {
        let (url, token, path) = (url.clone(), token.clone(), folder.path().to_owned());
        let begin = Instant::now();
        let shown = tokio::task::block_in_place(|| run(step, &path, &url, &token));
        let lines: Vec<&str> = shown.iter().map(String::as_str).collect();
        assert!(
            matches(&step.expected, &lines),
            "docs/tour.md:{}: $ {}\n--- written\n{}\n--- printed after {:?}\n{}",
            step.line,
            step.command,
            step.expected.join("\n"),
            begin.elapsed(),
            shown.join("\n"),
        );
    }
    nodes.iter().for_each(tokio::task::JoinHandle::abort);
    serving.abort();
}

#[test]
fn a_placeholder_stands_for_what_differs_and_for_nothing_else() {
    let pattern = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(matches(&pattern("NAME …\nA  active …"), &["NAME   CPU", "A   active  3 %"]));
    assert!(matches(&pattern("…\nend"), &["1", "2", "end"]));
    assert!(!matches(&pattern("A  active …"), &["A   offline  3 %"]));
    assert!(!matches(&pattern("one"), &["one", "two"]));
    assert!(matches_line("took … in …", "took 3 s in all") && !matches_line("took … in all", "took 3 s in part"));
    assert_eq!(words("fogctl x --note \"a b\" c"), ["fogctl", "x", "--note", "a b", "c"]);
}
