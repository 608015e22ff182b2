//! Real programs, all under load at once, move there and back: their state is checked, over connections that are never
//! made anew.
//!
//! Without more said each goes there and back once, each with another strategy. ROUNDS is how often each goes there and back
//! with *every* strategy; with OUT=FILE the figures are kept there.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{self, Child, Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;

use fog_api::migration::{Migration, Phase, Strategy};
use fog_e2e::clients::{Mqtt, THINKS, Worker, get};
use fog_e2e::cluster::{Cluster, DEADLINE, leftovers};
use fog_e2e::one_connection::{Client, connect};
use fog_e2e::{heavy, results, workloads};
use fog_lab::images::Image;
use fog_lab::{CgroupVersion, LabConfig, Node, Suite, wait_until};
use serde_json::json;

const STRATEGIES: [Strategy; 4] = [Strategy::StopAndCopy, Strategy::PreCopy, Strategy::PostCopy, Strategy::Hybrid];

/// Threads that answer, and a child that counts as well; both must agree with the client.
const SERVER: &str = "
import http.server, os, threading
ask, answer = os.pipe(), os.pipe()
if os.fork() == 0:
    count = 0
    while os.read(ask[0], 1):
        count += 1
        os.write(answer[1], count.to_bytes(8, 'big'))
    os._exit(0)
lock, count = threading.Lock(), 0
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        global count
        with lock:
            count += 1
            os.write(ask[1], b'.')
            child = int.from_bytes(os.read(answer[0], 8), 'big')
            body = f'{count} {child} {threading.active_count() > 1}'.encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(('', 80), Handler).serve_forever()
";

/// Writes the same blocks over and over into a file of its writable layer and one of its volume, and stops on SIGTERM.
const WRITER: &str = "
import hashlib, os, signal, time
files = [os.open(path, os.O_RDWR | os.O_CREAT) for path in ('/layer', '/volume/file')]
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
number = 0
while not stopped:
    block = hashlib.sha256(str(number).encode()).digest() * 128
    for file in files: os.pwrite(file, block, number % 4096 * 4096)
    number += 1
    if number % 64 == 0:
        os.fsync(files[number // 64 % 2])
        print(number, flush=True)
    time.sleep(0.002)
print('wrote', number, flush=True)
while True: signal.pause()
";

/// What both files must hold after so many blocks.
const CHECKER: &str = "
import hashlib, sys
count = int(sys.argv[1])
numbers = [max(range(place, count, 4096)) for place in range(min(count, 4096))]
wanted = hashlib.sha256(b''.join(hashlib.sha256(str(number).encode()).digest() * 128 for number in numbers))
for path in '/layer', '/volume/file':
    found = hashlib.sha256(open(path, 'rb').read())
    print(path, 'equal' if found.digest() == wanted.digest() else 'DIFFERS')
";

const TOPIC: &str = "fog";

/// A program that moves.
struct Program {
    name: &'static str,
    image: &'static str,
    /// Further options of `docker run`.
    options: Vec<String>,
    command: Vec<&'static str>,
}

fn program(name: &'static str, image: &'static str, options: &[&str], command: &[&'static str]) -> Program {
    let options = options.iter().map(|option| (*option).to_owned()).collect();
    Program { name, image, options, command: command.to_vec() }
}

const JAVA: [&str; 4] = ["java", "-Xmx128m", "-XX:+UseSerialGC", "/Beats.java"];

/// Hosts with programs on A that can run ahead of their memory.
fn start(
    name: &str,
    suite: Suite,
    cgroup: CgroupVersion,
    images: &[Image],
    programs: &mut [Program],
    lan: bool,
) -> Cluster {
    let config = LabConfig::new(&format!("{name}-{}", process::id()), &["A", "B"])
        .each_node(|node| (node.suite, node.cgroup) = (suite, Some(cgroup)));
    let cluster = Cluster::up(config, &mut |line| eprintln!("{name}: {line}")).unwrap();
    let subnet = cluster.node("A").address().rsplit_once('.').unwrap().0.to_owned();
    for node in cluster.lab().nodes() {
        for image in images {
            workloads::load([node], image).unwrap();
        }
        if lan {
            let (range, gateway) = (format!("{subnet}.0/24"), format!("{subnet}.1"));
            let create = ["docker", "network", "create", "--driver", "macvlan", "--opt", "parent=eth0"];
            node.run(&[&create[..], &["--subnet", &range, "--gateway", &gateway, "lan"]].concat()).unwrap();
        }
    }
    for (index, program) in programs.iter_mut().enumerate() {
        if lan {
            program.options.extend([
                "--network".into(),
                "lan".into(),
                "--ip".into(),
                format!("{subnet}.{}", 200 + index),
            ]);
        }
        let run = ["docker", "run", "--detach", "--name", program.name, "--label", "fogshift.post-copy=allowed"];
        let options: Vec<&str> = program.options.iter().map(String::as_str).collect();
        cluster.node("A").run(&[&run[..], &options, &[program.image], &program.command].concat()).unwrap();
    }
    cluster
}

fn address(cluster: &Cluster, index: usize, port: u16) -> SocketAddr {
    let subnet = cluster.node("A").address().rsplit_once('.').unwrap().0.to_owned();
    SocketAddr::new(format!("{subnet}.{}", 200 + index).parse().unwrap(), port)
}

fn logs(node: &Node, name: &str) -> String {
    let output = node.exec(&["docker", "logs", name]).unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

fn wait_log(node: &Node, name: &str, words: &str) {
    let wait = wait_until(DEADLINE, &format!("{name} to say {words:?}"), || {
        Ok(logs(node, name).contains(words).then_some(()))
    });
    wait.unwrap_or_else(|error| panic!("{error}: {}", logs(node, name)));
}

/// The last number that a line of the log has behind these words.
fn counted(node: &Node, name: &str, words: &str) -> u64 {
    let log = logs(node, name);
    assert!(!log.contains("BAD"), "{name}: {log}");
    log.lines().rev().find_map(|line| line.strip_prefix(words)?.trim().parse().ok()).unwrap_or(0)
}

fn goes_on(node: &Node, name: &str, words: &str) {
    let before = counted(node, name, words);
    wait_until(DEADLINE, &format!("{name} to go on"), || Ok((counted(node, name, words) > before).then_some(())))
        .unwrap();
}

fn psql(node: &Node, sql: &str) -> String {
    let ask = ["docker", "exec", "postgres", "psql", "--host", "/run", "--username", "postgres", "-qAt", "-c", sql];
    node.run(&ask).unwrap()
}

fn transactions(node: &Node) -> u64 {
    psql(node, "SELECT count(*) FROM pgbench_history").trim().parse().unwrap()
}

fn more_transactions(node: &Node) {
    let before = transactions(node);
    wait_until(DEADLINE, "PostgreSQL to commit", || Ok((transactions(node) >= before + 20).then_some(()))).unwrap();
}

/// Every file of the writer is what it wrote.
fn check_writer(node: &Node) {
    node.run(&["docker", "kill", "--signal", "TERM", "writer"]).unwrap();
    wait_log(node, "writer", "wrote ");
    let count = counted(node, "writer", "wrote ").to_string();
    let said = node.run(&["docker", "exec", "writer", "python3", "-c", CHECKER, &count]).unwrap();
    eprintln!("writer: {count} blocks; {}", said.replace('\n', ", "));
    assert_eq!(said.matches("equal").count(), 2, "{said}");
}

/// Moves every program there and back, and keeps the figures.
fn there_and_back(cluster: &Cluster, name: &str, programs: &[Program], after: &dyn Fn(&Node)) {
    let commit = results::commit();
    let rounds: Option<u32> = std::env::var("ROUNDS").ok().map(|rounds| rounds.parse().unwrap());
    let mut moved: BTreeMap<(&str, String), Vec<Migration>> = BTreeMap::new();
    let passes: Vec<(u32, Option<Strategy>)> = match rounds {
        None => vec![(1, None)],
        Some(rounds) => STRATEGIES.iter().flat_map(|one| (1..=rounds).map(|round| (round, Some(*one)))).collect(),
    };
    for (round, strategy) in passes {
        for (from, to) in [("A", "B"), ("B", "A")] {
            for (index, program) in programs.iter().enumerate() {
                let strategy = strategy.unwrap_or(STRATEGIES[(index + usize::from(to == "A")) % STRATEGIES.len()]);
                cluster.wait_known(program.name, from).unwrap();
                let begun = wait_until(DEADLINE, "the move to be taken", || {
                    match cluster.begin_by(program.name, to, strategy) {
                        Err(error) if format!("{error:#}").contains("changed its owner") => Ok(None),
                        other => other.map(Some),
                    }
                });
                let migration = cluster.over(begun.unwrap().id).unwrap();
                assert_eq!(migration.phase, Phase::Done, "{} {strategy}: {:#?}", program.name, migration.cause);
                let (downtime, sent) = (migration.downtime_ms.unwrap(), migration.sent_bytes.unwrap_or(0) >> 10);
                let kept = migration.connections.as_ref();
                let open = kept.map_or(0, |kept| kept.open);
                eprintln!(
                    "{round}: {} → {to} {strategy}: {downtime:.0} ms, {sent} KiB, {open} connections",
                    program.name
                );
                assert!(kept.is_none_or(|kept| kept.kept || kept.open == 0), "{kept:?}");
                moved.entry((program.name, strategy.to_string())).or_default().push(migration);
            }
            after(cluster.node(to));
        }
    }
    let Some(file) = std::env::var_os("OUT") else { return };
    let mut by: BTreeMap<&str, BTreeMap<&str, serde_json::Value>> = BTreeMap::new();
    for ((program, strategy), moves) in &moved {
        let mut downtimes: Vec<f64> = moves.iter().filter_map(|migration| migration.downtime_ms).collect();
        downtimes.sort_by(f64::total_cmp);
        let sent: u64 = moves.iter().filter_map(|migration| migration.sent_bytes).sum();
        let figures = json!({
            "moves": moves.len(),
            "downtime_ms": {"median": downtimes[downtimes.len() / 2].round(), "worst": downtimes[downtimes.len() - 1].round()},
            "sent_bytes_mean": sent / moves.len() as u64,
        });
        by.entry(program).or_default().insert(strategy, figures);
    }
    results::keep(Path::new(&file), name, commit.as_deref(), json!({
        "what": "moves of real programs under load, none failed, every state checked at the end; see tests/e2e/tests/workloads.rs",
        "rounds": rounds.unwrap_or(1),
        "programs": by,
    })).unwrap();
}

fn clean(cluster: &Cluster) {
    for node in cluster.lab().nodes() {
        assert_eq!(leftovers(node).unwrap(), Vec::<String>::new());
    }
}

/// pgbench at work from outside, over connections that it never makes anew.
struct Bench(Child);

impl Bench {
    fn start(place: SocketAddr) -> Bench {
        let mut command = Command::new("chroot");
        command.arg(heavy::tree().unwrap()).args([
            "/usr/lib/postgresql/17/bin/pgbench",
            "--client",
            "4",
            "--time",
            "36000",
        ]);
        let (host, port) = (place.ip().to_string(), place.port().to_string());
        command.args(["--host", &host, "--port", &port, "--username", "postgres", "postgres"]);
        Bench(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Its report, after the transaction that was under way.
    fn stop(&mut self) -> String {
        let running = self.0.try_wait().unwrap().is_none();
        if running {
            let pid = rustix::process::Pid::from_child(&self.0);
            rustix::process::kill_process(pid, rustix::process::Signal::ALARM).unwrap();
        }
        let read = |stream: Option<&mut dyn std::io::Read>| {
            let mut text = String::new();
            stream.map(|stream| stream.read_to_string(&mut text));
            text
        };
        let report =
            read(self.0.stdout.as_mut().map(|out| out as _)) + &read(self.0.stderr.as_mut().map(|out| out as _));
        assert!(self.0.wait().unwrap().success() && running, "{report}");
        report
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn check_postgres(node: &Node, report: &str) {
    let done = heavy::figure(report, "number of transactions actually processed").unwrap();
    assert_eq!(heavy::figure(report, "number of failed transactions").unwrap(), 0, "{report}");
    let sums = psql(node, heavy::SUMS);
    eprintln!("postgres: {done} transactions; rows and sums: {sums}");
    heavy::check_sums(&sums, done).unwrap();
}

#[test]
fn real_programs_keep_their_state_and_their_connections() {
    // CRIU 4.1 (trixie) cannot dump a network socket on kernels from 6.16 on.
    let images = [
        workloads::redis(),
        workloads::nginx(),
        workloads::mosquitto(),
        workloads::python(),
        heavy::postgres(),
        heavy::java(),
    ];
    let images = images.map(Result::unwrap);
    let mut programs = [
        program("redis", workloads::REDIS, &[], &[]),
        program("nginx", workloads::NGINX, &[], &[]),
        program("mosquitto", workloads::MOSQUITTO, &[], &[]),
        program("python", workloads::PYTHON, &[], &["python3", "-c", SERVER]),
        program("postgres", heavy::POSTGRES, &["--volume", "pgdata:/data"], &[]),
        program("java", heavy::JAVA, &[], &[&JAVA[..], &["80"]].concat()),
        program("writer", workloads::PYTHON, &["--volume", "written:/volume"], &["python3", "-c", WRITER]),
    ];
    let cluster = start("programs", Suite::Forky, CgroupVersion::V2, &images, &mut programs, true);
    let a = cluster.node("A");
    wait_log(a, "postgres", "ready");

    let redis = Client::start(address(&cluster, 0, 6379)).unwrap();
    let (mut download, expected) = (connect(address(&cluster, 1, 80)).unwrap(), Arc::new(workloads::download()));
    let nginx = Worker::start("nginx's download", move |_| {
        let body = get(&mut download, "/file")?;
        anyhow::ensure!(body == *expected, "{} bytes came, and not those of the file", body.len());
        Ok(())
    });
    let mut publisher = Mqtt::connect(address(&cluster, 2, 1883), "publisher").unwrap();
    let mut subscribers: Vec<Mqtt> = (0..3)
        .map(|number| {
            let mut subscriber = Mqtt::connect(address(&cluster, 2, 1883), &format!("subscriber-{number}")).unwrap();
            subscriber.subscribe(TOPIC).unwrap();
            subscriber
        })
        .collect();
    let mosquitto = Worker::start("mosquitto's subscribers", move |round| {
        publisher.publish(TOPIC, &round.to_string())?;
        for subscriber in &mut subscribers {
            let heard = subscriber.message()?;
            anyhow::ensure!(heard == round.to_string(), "message {round} came as {heard}");
        }
        sleep(THINKS);
        Ok(())
    });
    let mut web = connect(address(&cluster, 3, 80)).unwrap();
    let python = Worker::start("the web server's client", move |round| {
        let (body, count) = (get(&mut web, "/")?, round + 1);
        anyhow::ensure!(body == format!("{count} {count} True").as_bytes(), "{:?}", String::from_utf8_lossy(&body));
        sleep(THINKS);
        Ok(())
    });
    let mut bench = Bench::start(address(&cluster, 4, 5432));
    let (mut beats, mut most) = (connect(address(&cluster, 5, 80)).unwrap(), 0_u64);
    let java = Worker::start("the Java server's client", move |round| {
        let body = String::from_utf8_lossy(&get(&mut beats, "/")?).into_owned();
        let (count, passes) = body.split_once(' ').unwrap_or_default();
        anyhow::ensure!(count == (round + 1).to_string(), "request {} was counted as {count}", round + 1);
        let passes = passes.parse()?;
        anyhow::ensure!(passes >= most, "{passes} passes after {most}");
        most = passes;
        sleep(THINKS);
        Ok(())
    });

    there_and_back(&cluster, "docker-28", &programs, &|node| {
        redis.wait_more(100).unwrap();
        mosquitto.wait_more(20).unwrap();
        python.wait_more(20).unwrap();
        nginx.wait_more(1).unwrap();
        java.wait_more(20).unwrap();
        goes_on(node, "java", "passes ");
        goes_on(node, "writer", "");
        more_transactions(node);
    });
    check_postgres(a, &bench.stop());
    check_writer(a);
    let worst = redis.worst().as_millis();
    eprintln!("redis: {} operations, each answered once, {worst} ms at most", redis.stop().unwrap().operations);
    eprintln!("nginx: {} whole downloads over one connection", nginx.stop().unwrap());
    eprintln!("mosquitto: {} messages in order to each of three, none twice", mosquitto.stop().unwrap());
    eprintln!("python: {} requests, threads and child agree", python.stop().unwrap());
    eprintln!("java: {} requests over one connection, {} passes", java.stop().unwrap(), counted(a, "java", "passes "));
    clean(&cluster);
}

/// Docker 26 comes with a CRIU that cannot dump network sockets on kernels from 6.16 on: what runs here has none.
#[test]
fn real_programs_keep_their_state_on_docker_26() {
    let images = [workloads::python(), heavy::postgres(), heavy::java()].map(Result::unwrap);
    let mut programs = [
        program("postgres", heavy::POSTGRES, &["--volume", "pgdata:/data"], &["sh", "/start", "inside"]),
        program("java", heavy::JAVA, &[], &JAVA),
        program("writer", workloads::PYTHON, &["--volume", "written:/volume"], &["python3", "-c", WRITER]),
    ];
    let cluster = start("programs26", Suite::Trixie, CgroupVersion::V1, &images, &mut programs, false);
    let a = cluster.node("A");
    wait_log(a, "postgres", "ready");
    there_and_back(&cluster, "docker-26", &programs, &|node| {
        goes_on(node, "java", "passes ");
        goes_on(node, "writer", "");
        more_transactions(node);
    });
    a.run(&["docker", "exec", "postgres", "sh", "-c", "read pid < /run/pgbench.pid; kill -ALRM $pid"]).unwrap();
    wait_log(a, "postgres", "number of failed transactions");
    check_postgres(a, &logs(a, "postgres"));
    check_writer(a);
    eprintln!("java: {} passes", counted(a, "java", "passes "));
    clean(&cluster);
}
