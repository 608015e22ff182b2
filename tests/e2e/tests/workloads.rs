//! Real programs, all under load at once, move there and back: their state is checked, over connections that are never
//! made anew. ROUNDS is how often they go there and back.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::SocketAddr;
use std::process;
use std::sync::Arc;
use std::thread::sleep;

use fog_e2e::clients::{Mqtt, THINKS, Worker, get};
use fog_e2e::cluster::{Cluster, leftovers};
use fog_e2e::one_connection::{Client, connect};
use fog_e2e::workloads;
use fog_lab::{CgroupVersion, LabConfig, Suite};

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

const TOPIC: &str = "fog";

#[test]
fn real_programs_keep_their_state_and_their_connections() {
    // CRIU 4.1 (trixie) cannot dump a network socket on kernels from 6.16 on.
    let config = LabConfig::new(&format!("programs-{}", process::id()), &["A", "B"])
        .each_node(|node| (node.suite, node.cgroup) = (Suite::Forky, Some(CgroupVersion::V2)));
    let cluster = Cluster::up(config, &mut |line| eprintln!("workloads: {line}")).unwrap();
    let subnet = cluster.node("A").address().rsplit_once('.').unwrap().0.to_owned();
    for node in cluster.lab().nodes() {
        let (range, gateway) = (format!("{subnet}.0/24"), format!("{subnet}.1"));
        let create = ["docker", "network", "create", "--driver", "macvlan", "--opt", "parent=eth0"];
        node.run(&[&create[..], &["--subnet", &range, "--gateway", &gateway, "lan"]].concat()).unwrap();
    }
    let images =
        [workloads::redis(), workloads::nginx(), workloads::mosquitto(), workloads::python()].map(Result::unwrap);
    for image in &images {
        workloads::load(cluster.lab().nodes(), image).unwrap();
    }
    let python = ["python3", "-c", SERVER];
    let programs: [(&str, &str, &[&str], u16); 4] = [
        ("redis", workloads::REDIS, &[], 6379),
        ("nginx", workloads::NGINX, &[], 80),
        ("mosquitto", workloads::MOSQUITTO, &[], 1883),
        ("python", workloads::PYTHON, &python, 80),
    ];
    let a = cluster.node("A");
    let address = |index: usize| format!("{subnet}.{}", 200 + index);
    let place = |index: usize| SocketAddr::new(address(index).parse().unwrap(), programs[index].3);
    for (index, (name, image, command, _)) in programs.iter().enumerate() {
        let ip = address(index);
        let run = ["docker", "run", "--detach", "--name", name, "--network", "lan", "--ip", &ip, image];
        a.run(&[&run[..], command].concat()).unwrap();
    }

    let redis = Client::start(place(0)).unwrap();
    let (mut download, expected) = (connect(place(1)).unwrap(), Arc::new(workloads::download()));
    let nginx = Worker::start("nginx's download", move |_| {
        let body = get(&mut download, "/file")?;
        anyhow::ensure!(body == *expected, "{} bytes came, and not those of the file", body.len());
        Ok(())
    });
    let mut publisher = Mqtt::connect(place(2), "publisher").unwrap();
    let mut subscriber = Mqtt::connect(place(2), "subscriber").unwrap();
    subscriber.subscribe(TOPIC).unwrap();
    let mosquitto = Worker::start("mosquitto's subscriber", move |round| {
        publisher.publish(TOPIC, &round.to_string())?;
        let heard = subscriber.message()?;
        anyhow::ensure!(heard == round.to_string(), "message {round} came as {heard}");
        sleep(THINKS);
        Ok(())
    });
    let mut web = connect(place(3)).unwrap();
    let python = Worker::start("the web server's client", move |round| {
        let (body, count) = (get(&mut web, "/")?, round + 1);
        anyhow::ensure!(body == format!("{count} {count} True").as_bytes(), "{:?}", String::from_utf8_lossy(&body));
        sleep(THINKS);
        Ok(())
    });

    let rounds: u32 = std::env::var("ROUNDS").map_or(1, |rounds| rounds.parse().unwrap());
    for round in 1..=rounds {
        for to in ["B", "A"] {
            for (name, ..) in programs {
                let from = if to == "B" { "A" } else { "B" };
                cluster.wait_known(name, from).unwrap();
                let migration = cluster.migrate(name, to).unwrap();
                let (downtime, kept) = (migration.downtime_ms.unwrap(), migration.connections.unwrap());
                let bytes = migration.checkpoint_bytes.unwrap() >> 10;
                eprintln!("{round}: {name} → {to}: {downtime:.0} ms, {bytes} KiB, {} connections", kept.open);
                assert!(kept.kept && kept.open > 0, "{kept:?}");
            }
            redis.wait_more(100).unwrap();
            mosquitto.wait_more(20).unwrap();
            python.wait_more(20).unwrap();
            nginx.wait_more(1).unwrap();
        }
    }
    let worst = redis.worst().as_millis();
    eprintln!("redis: {} operations, each answered once, {worst} ms at most", redis.stop().unwrap().operations);
    eprintln!("nginx: {} whole downloads over one connection", nginx.stop().unwrap());
    eprintln!("mosquitto: {} messages in order, none twice", mosquitto.stop().unwrap());
    eprintln!("python: {} requests, threads and child agree", python.stop().unwrap());
    for node in cluster.lab().nodes() {
        assert_eq!(leftovers(node).unwrap(), Vec::<String>::new());
    }
}
