//! The channel against an orchestrator that is played by this test.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fog_agent::channel::{Channel, Outbox, carry_out_with};
use fog_agent::config::{Config, OrchestratorUrl};
use fog_api::agent::{
    Answer, Command, Finished, FromAgent, Hello, NodeFacts, Order, Outcome, Peer, Progress, Report, Sample, Stage,
    ToAgent, Welcome,
};
use futures_util::{SinkExt, StreamExt};
use jiff::Timestamp;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const TOKEN: &str = "correct-horse";

struct Agent {
    outbox: Arc<Outbox>,
    facts: watch::Sender<NodeFacts>,
    peers: watch::Receiver<Vec<Peer>>,
    interval: watch::Receiver<Duration>,
    asked: Arc<AtomicUsize>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Agent {
    /// An agent whose steps take `step` and always succeed.
    fn start(listener: &TcpListener, token: &str, step: Duration) -> Self {
        let address = listener.local_addr().expect("address");
        let config = Config {
            orchestrator: Some(OrchestratorUrl::try_from(format!("http://{address}")).expect("address")),
            node: "n1".to_owned(),
            token: Some(token.to_owned()),
            ..Config::default()
        };
        let outbox = Arc::new(Outbox::new(100));
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let carry_out = carry_out_with(move |command: Command, progress: mpsc::Sender<Progress>| {
            let counter = Arc::clone(&counter);
            async move {
                counter.fetch_add(1, Ordering::SeqCst);
                let migration = command.migration;
                let begun = Progress {
                    migration,
                    stage: Stage::Freeze,
                    bytes: 0,
                    bytes_total: None,
                    finished: Finished::default(),
                };
                let _ = progress.send(begun).await;
                tokio::time::sleep(step).await;
                Answer { key: command.key(), outcome: Outcome::Done(Report::default()) }
            }
        });
        let (facts, known_facts) = watch::channel(NodeFacts { arch: "x86_64".to_owned(), ..NodeFacts::default() });
        let (peers, known_peers) = watch::channel(Vec::new());
        let (interval, known_interval) = watch::channel(Duration::from_secs(2));
        let shutdown = CancellationToken::new();
        let channel = Channel::new(Arc::new(config), Arc::clone(&outbox), known_facts, peers, interval, carry_out);
        let task = tokio::spawn(channel.run(shutdown.clone()));
        Self { outbox, facts, peers: known_peers, interval: known_interval, asked, shutdown, task }
    }

    fn put(&self, samples: usize) {
        (0..samples).for_each(|_| self.outbox.put(sample()));
    }
}

struct Orchestrator(WebSocketStream<TcpStream>);

impl Orchestrator {
    /// Takes the next connection if its token is right.
    async fn accept(listener: &TcpListener) -> Option<Self> {
        let (stream, _) = soon(listener.accept()).await.expect("accept");
        #[expect(clippy::result_large_err, reason = "the signature is the library's")]
        let check = |request: &Request, response: Response| {
            assert_eq!(request.uri().path(), "/v1/agents/channel");
            if request.headers()["authorization"] == format!("Bearer {TOKEN}") {
                Ok(response)
            } else {
                let mut refusal = ErrorResponse::new(None);
                *refusal.status_mut() = tokio_tungstenite::tungstenite::http::StatusCode::UNAUTHORIZED;
                Err(refusal)
            }
        };
        tokio_tungstenite::accept_hdr_async(stream, check).await.ok().map(Self)
    }

    /// Takes the next connection, its Hello, and welcomes it.
    async fn welcome(listener: &TcpListener) -> (Self, Hello) {
        let mut connection = Self::accept(listener).await.expect("the right token");
        let FromAgent::Hello(hello) = connection.next().await else { panic!("no Hello first") };
        connection.say(&ToAgent::Welcome(Welcome { sample_interval_s: 0.5, peers: vec![peer()] })).await;
        (connection, hello)
    }

    async fn next(&mut self) -> FromAgent {
        loop {
            match soon(self.0.next()).await.expect("open").expect("a frame") {
                Message::Text(text) => return serde_json::from_str(&text).expect("the contract"),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    async fn say(&mut self, message: &ToAgent) {
        self.0.send(Message::text(serde_json::to_string(message).expect("JSON"))).await.expect("sent");
    }

    /// Numbers of the next batch.
    async fn samples(&mut self) -> Vec<u64> {
        let FromAgent::Heartbeat(heartbeat) = self.next().await else { panic!("no heartbeat") };
        heartbeat.samples.iter().map(|sample| sample.seq).collect()
    }

    async fn answer(&mut self) -> Answer {
        loop {
            match self.next().await {
                FromAgent::Answer(answer) => return answer,
                FromAgent::Progress(_) => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), work).await.expect("within 10 s")
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("bind")
}

fn peer() -> Peer {
    Peer { node: "n2".to_owned(), transfer_address: "10.0.0.2:7710".to_owned(), runc: None }
}

fn command(workload: &str) -> Command {
    Command {
        migration: Uuid::from_u128(7),
        workload: workload.to_owned(),
        epoch: 3,
        order: Order::Inspect { bind_mounts: Vec::new() },
    }
}

fn sample() -> Sample {
    Sample {
        seq: 0,
        at: Timestamp::UNIX_EPOCH,
        cpu: 0.5,
        run_queue: 0.0,
        load1: 0.0,
        memory: 0.0,
        pressure: Default::default(),
        disk: 0.0,
        network_received_bytes_per_s: 0.0,
        network_sent_bytes_per_s: 0.0,
        temperature_c: None,
        workloads: None,
        links: Vec::new(),
    }
}

#[tokio::test]
async fn hello_welcome_samples() {
    let listener = listener().await;
    let mut agent = Agent::start(&listener, TOKEN, Duration::ZERO);
    agent.put(2);
    let (mut orchestrator, hello) = Orchestrator::welcome(&listener).await;
    assert_eq!((hello.node.as_str(), hello.protocol), ("n1", fog_api::agent::PROTOCOL));
    assert_eq!(hello.transfer_address, "127.0.0.1:7710", "the local address towards the orchestrator");
    assert_eq!(orchestrator.samples().await, [1, 2]);
    soon(agent.peers.wait_for(|peers| *peers == [peer()])).await.expect("published");
    soon(agent.interval.wait_for(|interval| *interval == Duration::from_millis(500))).await.expect("published");

    agent.put(1);
    orchestrator.say(&ToAgent::Received { up_to: 2 }).await;
    assert_eq!(orchestrator.samples().await, [3]);
    orchestrator.say(&ToAgent::Peers { peers: Vec::new() }).await;
    soon(agent.peers.wait_for(Vec::is_empty)).await.expect("published");
}

#[tokio::test]
async fn what_was_not_acknowledged_is_sent_again() {
    let listener = listener().await;
    let agent = Agent::start(&listener, TOKEN, Duration::ZERO);
    agent.put(3);
    let (mut first, hello) = Orchestrator::welcome(&listener).await;
    assert_eq!(first.samples().await, [1, 2, 3]);
    first.say(&ToAgent::Received { up_to: 1 }).await;
    drop(first);
    agent.put(1);
    let (mut second, again) = Orchestrator::welcome(&listener).await;
    assert_eq!(hello.boot, again.boot);
    let seen = second.samples().await;
    assert!(seen == [2, 3, 4] || seen == [1, 2, 3, 4], "{seen:?}: the acknowledgement may have come too late");
}

#[tokio::test]
async fn a_command_outlives_its_connection_and_every_repetition_is_answered() {
    let listener = listener().await;
    let agent = Agent::start(&listener, TOKEN, Duration::from_millis(700));
    let (mut first, _) = Orchestrator::welcome(&listener).await;
    first.say(&ToAgent::Command(command("looper"))).await;
    assert!(matches!(first.next().await, FromAgent::Progress(progress) if progress.stage == Stage::Freeze));
    drop(first);
    let (mut second, _) = Orchestrator::welcome(&listener).await;
    let answer = second.answer().await;
    assert_eq!(answer.key, command("looper").key());
    assert!(matches!(answer.outcome, Outcome::Done(_)));
    second.say(&ToAgent::Command(command("looper"))).await;
    assert_eq!(second.answer().await, answer);
    assert_eq!(agent.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn nonsense_is_ignored() {
    let listener = listener().await;
    let agent = Agent::start(&listener, TOKEN, Duration::ZERO);
    let (mut orchestrator, _) = Orchestrator::welcome(&listener).await;
    for nonsense in ["{", "{\"type\":\"dance\"}", "[]"] {
        orchestrator.0.send(Message::text(nonsense)).await.expect("sent");
    }
    agent.put(1);
    assert_eq!(orchestrator.samples().await, [1]);
}

#[tokio::test]
async fn changed_facts_are_reported_by_a_new_hello() {
    let listener = listener().await;
    let agent = Agent::start(&listener, TOKEN, Duration::ZERO);
    let (_first, hello) = Orchestrator::welcome(&listener).await;
    assert_eq!(hello.facts.docker, None);
    agent.facts.send_modify(|facts| facts.docker = Some("28.5.2".to_owned()));
    let (_second, hello) = Orchestrator::welcome(&listener).await;
    assert_eq!(hello.facts.docker.as_deref(), Some("28.5.2"));
}

#[tokio::test]
async fn a_refused_agent_waits() {
    let listener = listener().await;
    let agent = Agent::start(&listener, TOKEN, Duration::ZERO);
    let mut connection = Orchestrator::accept(&listener).await.expect("the right token");
    let FromAgent::Hello(_) = connection.next().await else { panic!("no Hello first") };
    connection.say(&ToAgent::Refused { reason: "the name n1 is taken".to_owned() }).await;
    let again = timeout(Duration::from_secs(2), listener.accept()).await;
    assert!(again.is_err(), "asked again at once");
    assert!(!agent.task.is_finished());
}

#[tokio::test]
async fn so_does_one_with_a_wrong_token() {
    let listener = listener().await;
    let _agent = Agent::start(&listener, "wrong", Duration::ZERO);
    assert!(Orchestrator::accept(&listener).await.is_none());
    assert!(timeout(Duration::from_secs(2), listener.accept()).await.is_err(), "asked again at once");
}

#[tokio::test]
async fn it_ends_at_once_when_told() {
    let listener = listener().await;
    let agent = Agent::start(&listener, TOKEN, Duration::from_secs(3600));
    let (mut orchestrator, _) = Orchestrator::welcome(&listener).await;
    orchestrator.say(&ToAgent::Command(command("looper"))).await;
    assert!(matches!(orchestrator.next().await, FromAgent::Progress(_)));
    agent.shutdown.cancel();
    timeout(Duration::from_secs(1), agent.task).await.expect("within 1 s").expect("no panic");
}
