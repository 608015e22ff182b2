//! One simulated node: dials, says hello, samples, carries out, reconnects.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fog_api::agent::{
    Answer, CHANNEL_PATH, CheckedUp, Command, CommandKey, Examined, Failure, FailureKind, FromAgent, Heartbeat, Hello,
    LinkSample, Logged, NodeFacts, Outcome, PROTOCOL, Pressure, Resized, Sample, Specification, Step, ToAgent,
    WorkloadSample,
};
use fog_api::doctor::Check;
use fog_api::migration::LogLine;
use fog_api::workload::WorkloadState;
use futures_util::{SinkExt, StreamExt};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use uuid::Uuid;

use crate::trouble::Trouble;
use crate::world::{State, World};

/// To be sent; `None`: the agent dies, and its connection with it.
type Answers = mpsc::UnboundedSender<Option<FromAgent>>;

/// What a simulated node measures.
#[derive(Debug, Clone)]
pub struct Load {
    /// CPU, 0 to 1.
    pub cpu: f64,
    /// Memory, 0 to 1.
    pub memory: f64,
    /// Round-trip time to each other node, in milliseconds.
    pub rtt_ms: BTreeMap<String, f64>,
}

/// A simulated node.
pub struct SimNode {
    /// Its name.
    pub name: String,
    /// What it measures from now on.
    pub load: Mutex<Load>,
    /// Its labels.
    pub labels: Mutex<BTreeMap<String, String>>,
    world: Arc<World>,
    interval: Duration,
    answers: Mutex<BTreeMap<CommandKey, Outcome>>,
    boot: Uuid,
}

impl SimNode {
    /// A node of a world that samples every `interval`.
    pub fn new(name: &str, load: Load, world: &Arc<World>, interval: Duration) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            load: Mutex::new(load),
            labels: Mutex::new([("simulated".to_owned(), "true".to_owned())].into()),
            world: Arc::clone(world),
            interval,
            answers: Mutex::default(),
            boot: Uuid::new_v4(),
        })
    }

    /// Dials again and again until the task is aborted.
    pub async fn run(self: Arc<Self>, url: String, token: String) {
        let mut seq = 0;
        loop {
            // A refused dial is tried again at once by tests and soon by people: half a sampling period is both.
            let _ = self.converse(&url, &token, &mut seq).await;
            tokio::time::sleep(self.interval / 2).await;
        }
    }

    async fn converse(self: &Arc<Self>, url: &str, token: &str, seq: &mut u64) -> anyhow::Result<()> {
        let mut request = format!("{}{CHANNEL_PATH}", url.replacen("http", "ws", 1)).into_client_request()?;
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse()?);
        let (socket, _) = tokio_tungstenite::connect_async(request).await?;
        let (mut out, mut incoming) = socket.split();
        out.send(text(&FromAgent::Hello(self.hello()))).await?;
        let (answers, mut answered) = mpsc::unbounded_channel();
        let mut ticks = tokio::time::interval(self.interval);
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    *seq += 1;
                    out.send(text(&FromAgent::Heartbeat(Heartbeat { samples: vec![self.sample(*seq)] }))).await?;
                }
                Some(said) = answered.recv() => match said {
                    Some(answer) => out.send(text(&answer)).await?,
                    None => anyhow::bail!("the agent died"),
                },
                message = incoming.next() => match message {
                    Some(Ok(Message::Text(message))) => self.heard(&message, &answers)?,
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error.into()),
                    None => return Ok(()),
                },
            }
        }
    }

    fn heard(self: &Arc<Self>, message: &str, answers: &Answers) -> anyhow::Result<()> {
        match serde_json::from_str(message)? {
            ToAgent::Command(command) => {
                let (node, answers) = (Arc::clone(self), answers.clone());
                let trouble = self.world.trouble(&self.name, command.order.step());
                tokio::spawn(async move {
                    for said in node.under(trouble, &command).await {
                        let _ = answers.send(said);
                    }
                });
                Ok(())
            }
            ToAgent::Resize(asked) => {
                let error = asked.cpus.and_then(|limit| self.world.resize(&asked.workload, limit));
                let _ = answers.send(Some(FromAgent::Resized(Resized { id: asked.id, error })));
                Ok(())
            }
            ToAgent::Checkup(asked) => {
                let checks = vec![Check::ok("simulation", "this node is simulated")];
                let _ = answers.send(Some(FromAgent::CheckedUp(CheckedUp { id: asked.id, checks })));
                Ok(())
            }
            ToAgent::Examine(asked) => {
                // A simulated container has no configuration that anybody could look at: it is as it says.
                let specification = asked.specification.is_none().then(|| Specification {
                    name: asked.workload.clone(),
                    image: String::new(),
                    inspect: serde_json::Value::Null,
                });
                let _ = answers.send(Some(FromAgent::Examined(Examined {
                    id: asked.id,
                    specification,
                    ..Examined::default()
                })));
                Ok(())
            }
            ToAgent::Refused { reason } => anyhow::bail!("refused: {reason}"),
            _ => Ok(()),
        }
    }

    /// What is said about a command; `None`: the agent dies.
    async fn under(&self, trouble: Option<Trouble>, command: &Command) -> Vec<Option<FromAgent>> {
        let key = command.key();
        match &trouble {
            Some(Trouble::DiesBefore) => return vec![None],
            Some(Trouble::DiesInside) => {
                // What had begun is there, and a forward step is not begun again.
                let _ = self.world.carry_out(&self.name, command).await;
                if matches!(key.step, Step::Reserve | Step::Ship | Step::Restore) {
                    let message = "The agent was restarted in the middle of this step.".to_owned();
                    let failure = Failure { kind: FailureKind::Interrupted, message, log: Vec::new() };
                    self.answers.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Outcome::Failed(failure));
                }
                return vec![None];
            }
            Some(Trouble::Sleeps(time)) => tokio::time::sleep(*time).await,
            Some(Trouble::Before(deed)) => deed(),
            _ => {}
        }
        let outcome = self.answer(command).await;
        let answer = Some(FromAgent::Answer(Answer { key, outcome }));
        match trouble {
            Some(Trouble::DiesAfter) => vec![None],
            Some(Trouble::AnswersTwice) => vec![answer.clone(), answer],
            Some(Trouble::After(deed)) => {
                deed();
                vec![answer]
            }
            _ => vec![Some(self.logged(command)), answer],
        }
    }

    /// As an agent does; the second line is about a migration that this node has nothing to do with.
    fn logged(&self, command: &Command) -> FromAgent {
        let line = |migration, message: String| {
            (migration, LogLine { at: Timestamp::now(), level: "info".into(), node: None, message })
        };
        let own = line(command.migration, format!("simulated step={}", command.order.step()));
        FromAgent::Logged(Logged { lines: vec![own, line(Uuid::nil(), "about somebody else's".into())] })
    }

    /// Carries a command out once; repetitions get the stored answer, failed redo and undo steps are tried again.
    async fn answer(&self, command: &Command) -> Outcome {
        let key = command.key();
        let stored = self.answers.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(outcome) = stored {
            return outcome;
        }
        let outcome = self.world.carry_out(&self.name, command).await;
        let final_word = !matches!(&outcome, Outcome::Failed(failure) if failure.kind != FailureKind::Refused);
        if final_word {
            self.answers.lock().unwrap_or_else(PoisonError::into_inner).insert(key, outcome.clone());
        }
        outcome
    }

    fn hello(&self) -> Hello {
        Hello {
            protocol: PROTOCOL,
            node: self.name.clone(),
            agent_version: "simulated".into(),
            boot: self.boot,
            transfer_address: format!("{}.simulated:7710", self.name),
            facts: NodeFacts {
                arch: "x86_64".into(),
                kernel: "simulated".into(),
                cpus: 4.0,
                cpu_score: 1.0,
                memory_bytes: 8 << 30,
                cgroup: "v2".into(),
                labels: self.labels.lock().unwrap_or_else(PoisonError::into_inner).clone(),
                ..NodeFacts::default()
            },
        }
    }

    fn sample(&self, seq: u64) -> Sample {
        let load = self.load.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let link = |(to, rtt_ms): (&String, &f64)| LinkSample {
            to: to.clone(),
            rtt_ms: Some(*rtt_ms),
            loss: 0.0,
            bandwidth_mbps: None,
        };
        Sample {
            seq,
            at: Timestamp::now(),
            cpu: load.cpu,
            run_queue: (load.cpu * 4.0).round(),
            load1: load.cpu * 4.0,
            memory: load.memory,
            pressure: Some(Pressure { cpu: (load.cpu - 0.7).max(0.0), memory: 0.0, io: 0.0 }),
            disk: 0.3,
            network_received_bytes_per_s: 0.0,
            network_sent_bytes_per_s: 0.0,
            temperature_c: None,
            workloads: Some(
                self.world.containers(&self.name).into_iter().map(|one| workload(&self.world, one)).collect(),
            ),
            links: load.rtt_ms.iter().map(link).collect(),
        }
    }
}

fn workload(world: &World, (name, state): (String, State)) -> WorkloadSample {
    let (cpus, labels) = (world.cpus(&name), world.labels(&name));
    WorkloadSample {
        container: format!("simulated-{name}"),
        name,
        image: "fog/busybox:1".into(),
        state: if state == State::Running { WorkloadState::Running } else { WorkloadState::Paused },
        cpus: cpus.used,
        memory_bytes: 4 << 20,
        disk_bytes: None,
        processes: Some(1),
        dirty_bytes_per_s: None,
        cpus_limit: cpus.limit,
        memory_limit_bytes: None,
        labels,
        obstacles: Vec::new(),
        bind_mounts: Vec::new(),
    }
}

fn text(message: &FromAgent) -> Message {
    // Plain data of our own.
    Message::Text(serde_json::to_string(message).expect("wire types serialise").into())
}
