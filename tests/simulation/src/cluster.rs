//! Every node's containers, and the witness that looks at them after every change.
//!
//! A container is what Docker and the kernel make of it: whether its tasks run, are frozen, are held, or are gone; which
//! memory it has; its restart policy. Whoever changes one (an agent's engine, a user, a reboot) goes through
//! [`Cluster::change`], which checks the promises of `promise.rs` and adds a line to the trace.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fog_orchestrator::app::App;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use crate::clock;
use crate::promise;

/// The annotation by which the engine knows a container that a migration made.
const MARK: &str = "io.fogshift.migration";

/// What a container's tasks do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// There are none yet.
    Created,
    /// They run.
    Running,
    /// They are frozen.
    Paused,
    /// They are restored and stopped; Docker says that it is up.
    Held,
    /// They are gone.
    Exited,
}

/// One container.
#[derive(Debug, Clone)]
pub struct Container {
    /// Docker's id.
    pub id: String,
    /// Its name, by which Fogshift knows the workload.
    pub workload: String,
    /// What its tasks do.
    pub state: State,
    /// Its restart policy.
    pub policy: Value,
    /// Its first process.
    pub pid: i32,
    /// The migration that made it.
    pub mark: Option<Uuid>,
    /// All of its memory is here.
    pub whole: bool,
    /// Since when it runs, is paused and so on.
    pub since: Duration,
}

impl Container {
    fn always(&self) -> bool {
        self.policy["Name"] == "always"
    }

    /// What `docker inspect` says.
    pub fn inspect(&self) -> Value {
        let up = matches!(self.state, State::Running | State::Paused | State::Held);
        json!({
            "Id": self.id,
            "Name": format!("/{}", self.workload),
            "Image": "sha256:simulated",
            "State": {"Running": up, "Paused": self.state == State::Paused, "Pid": if up { self.pid } else { 0 },
                "ExitCode": if up { 0 } else { 137 }},
            "HostConfig": {
                "RestartPolicy": self.policy,
                "Annotations": self.mark.map(|mark| json!({MARK: mark})).unwrap_or(Value::Null),
            },
        })
    }
}

/// How far the stream of a migration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Its destination waits for it.
    Awaited,
    /// All of it is there.
    Arrived,
    /// It will never be.
    Broken,
}

/// Memory that travels after the restore.
#[derive(Debug, Clone, Default)]
pub struct Pages {
    /// The source's container, and its destination's.
    pub from: Option<(String, String)>,
    /// The destination's node and container.
    pub to: Option<(String, String)>,
    /// The source's agent sends.
    pub going: bool,
    /// The destination's agent takes in.
    pub coming: bool,
    /// Parts that are still to come.
    pub left: u32,
    /// When one came last.
    pub moved: Duration,
    /// Nothing is missing.
    pub whole: bool,
    /// And the destination has it in its journal.
    pub noted: bool,
    /// And the source's agent has heard so.
    pub heard: bool,
}

/// A rule that is taken away, to see that the witness notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Broken {
    /// A frozen container thaws by itself after a while.
    ThawsOnATimer,
    /// An agent that starts anew has forgotten its journal.
    ForgetsTheJournal,
    /// The orchestrator's last writes are lost when it dies.
    LosesWrites,
    /// The restart policy stays while a container is frozen.
    KeepsTheRestartPolicy,
    /// A restored container runs before the commit.
    RestoresRunning,
    /// Nobody ends a container whose memory can never come.
    RunsOnZeros,
    /// The source hears that all of the memory is there before the destination has written that down.
    TellsBeforeNoting,
}

/// What the simulation knows of everything.
pub struct Inner {
    /// By node and name.
    pub containers: BTreeMap<(String, String), Container>,
    /// By migration.
    pub streams: BTreeMap<Uuid, Stream>,
    /// Destinations' agents that wait for a stream, with the migration.
    pub expecting: BTreeSet<(String, Uuid)>,
    /// Dumps under way: the container's id and when it ends.
    pub dumps: BTreeMap<i32, (String, Instant)>,
    /// By migration.
    pub pages: BTreeMap<Uuid, Pages>,
    /// Until when each node's Docker is busy with what it was asked for.
    pub docker_busy: BTreeMap<String, Instant>,
    /// How often each node was booted anew.
    pub reboots: BTreeMap<String, u32>,
    /// Nodes whose Docker does not answer.
    pub docker_away: BTreeSet<String>,
    /// Workloads of which a user or a reboot took a copy away: they may be gone, though never twice.
    pub hurt: BTreeSet<String>,
    /// Every workload.
    pub workloads: BTreeSet<String>,
    /// Migrations whose source was seen running again.
    pub seen_running: BTreeSet<Uuid>,
    /// The highest epoch seen of each.
    pub epochs: BTreeMap<String, u64>,
    /// The orchestrator, while it is there.
    pub orchestrator: Option<App>,
    /// How likely steps fail and things take long, per thousand. 0 while everything is to settle.
    pub trouble: u32,
    /// What was promised and is not so.
    pub violations: Vec<String>,
    /// The only randomness.
    pub random: fastrand::Rng,
    next: i32,
    names: BTreeMap<Uuid, usize>,
    hash: DefaultHasher,
    lines: std::collections::VecDeque<String>,
    tell: bool,
    /// How many lines there were.
    pub events: u64,
}

/// Shared by everything that is simulated.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Mutex<Inner>>,
    /// Something is different.
    pub changed: Arc<Notify>,
    /// The rule that is taken away.
    pub broken: Option<Broken>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cluster")
    }
}

/// Lines of the trace that are kept for the report of a failure.
const KEPT: usize = 120;

impl Cluster {
    /// An empty one.
    pub fn new(seed: u64, broken: Option<Broken>, tell: bool) -> Cluster {
        let inner = Inner {
            containers: BTreeMap::new(),
            streams: BTreeMap::new(),
            expecting: BTreeSet::new(),
            dumps: BTreeMap::new(),
            pages: BTreeMap::new(),
            docker_busy: BTreeMap::new(),
            reboots: BTreeMap::new(),
            docker_away: BTreeSet::new(),
            hurt: BTreeSet::new(),
            workloads: BTreeSet::new(),
            seen_running: BTreeSet::new(),
            epochs: BTreeMap::new(),
            orchestrator: None,
            trouble: 0,
            violations: Vec::new(),
            random: fastrand::Rng::with_seed(seed),
            next: 5_000_000, // above every process of this machine
            names: BTreeMap::new(),
            hash: DefaultHasher::new(),
            lines: std::collections::VecDeque::new(),
            tell,
            events: 0,
        };
        Cluster { inner: Arc::new(Mutex::new(inner)), changed: Arc::default(), broken }
    }

    /// Looks, without changing a container.
    pub fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something; the promises are checked after it.
    pub fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.inner();
        let result = change(&mut inner);
        promise::check(&mut inner);
        drop(inner);
        self.changed.notify_waiters();
        result
    }

    /// Whether a rule is taken away.
    pub fn is(&self, broken: Broken) -> bool {
        self.broken == Some(broken)
    }

    /// A number below `end`.
    pub fn below(&self, end: u64) -> u64 {
        self.inner().random.u64(0..end.max(1))
    }

    /// True so often of a thousand times, while there is trouble.
    pub fn trouble(&self, per_thousand: u32) -> bool {
        let mut inner = self.inner();
        let chance = per_thousand * inner.trouble / 1000;
        chance > 0 && inner.random.u32(0..1000) < chance
    }

    /// A line of the trace.
    pub fn say(&self, line: impl std::fmt::Display) {
        self.inner().say(line);
    }

    /// The trace's hash so far.
    pub fn hash(&self) -> u64 {
        self.inner().hash.finish()
    }
}

impl Inner {
    /// A line of the trace.
    pub fn say(&mut self, line: impl std::fmt::Display) {
        let at = clock::now();
        let mut text = String::new();
        let _ = write!(text, "{:>12.3} {line}", at.as_secs_f64());
        text.hash(&mut self.hash);
        self.events += 1;
        if self.tell {
            println!("{text}");
        }
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(text);
    }

    /// The newest lines.
    pub fn lines(&self) -> impl Iterator<Item = &String> {
        self.lines.iter()
    }

    /// A promise is broken.
    pub fn violation(&mut self, what: String) {
        if !self.violations.contains(&what) {
            self.say(format!("VIOLATION: {what}"));
            self.violations.push(what);
        }
    }

    /// What a migration is called in the trace.
    pub fn name(&mut self, migration: Uuid) -> String {
        let next = self.names.len() + 1;
        format!("m{}", self.names.entry(migration).or_insert(next))
    }

    /// A new process or container number.
    pub fn number(&mut self) -> i32 {
        self.next += 1;
        self.next
    }

    /// A container by its name or id.
    pub fn find(&mut self, node: &str, container: &str) -> Option<&mut Container> {
        let by_id = |((at, _), one): &(&(String, String), &mut Container)| at == node && one.id == container;
        let key = (node.to_owned(), container.to_owned());
        if self.containers.contains_key(&key) {
            return self.containers.get_mut(&key);
        }
        self.containers.iter_mut().find(by_id).map(|(_, one)| one)
    }

    /// A container by its first process.
    pub fn find_process(&mut self, node: &str, pid: i32) -> Option<&mut Container> {
        self.containers.iter_mut().find(|((at, _), one)| at == node && one.pid == pid).map(|(_, one)| one)
    }

    /// Makes a container.
    pub fn create(&mut self, node: &str, workload: &str, policy: Value, mark: Option<Uuid>, state: State) -> String {
        let number = self.number();
        let id = format!("c{number}");
        let container = Container {
            id: id.clone(),
            workload: workload.to_owned(),
            state,
            policy,
            pid: number,
            mark,
            whole: true,
            since: clock::now(),
        };
        self.containers.insert((node.to_owned(), workload.to_owned()), container);
        self.say(format!("{node}: {workload} is {state:?} ({id})"));
        id
    }

    /// What a container's tasks do from now on.
    pub fn put(&mut self, node: &str, container: &str, state: State) {
        let Some(one) = self.find(node, container) else { return };
        if one.state != state {
            // What was gone begins anew, with memory of its own.
            one.whole |= one.state == State::Exited;
            one.state = state;
            one.since = clock::now();
            let line = format!("{node}: {} is {state:?} ({})", one.workload, one.id);
            self.say(line);
        }
    }

    /// Removes a container.
    pub fn remove(&mut self, node: &str, container: &str) {
        let Some(one) = self.find(node, container).cloned() else { return };
        self.containers.remove(&(node.to_owned(), one.workload.clone()));
        self.say(format!("{node}: {} is removed ({})", one.workload, one.id));
    }

    /// Every task of a container dies where it is; Docker may start it anew. True: it does.
    pub fn kill(&mut self, node: &str, container: &str) {
        let again = self.find(node, container).is_some_and(|one| one.always() && one.state != State::Exited);
        self.put(node, container, State::Exited);
        if again {
            self.put(node, container, State::Running);
        }
    }

    /// A node loses its power: tasks and memory are gone, and Docker starts what is to be started.
    pub fn reboot(&mut self, node: &str) {
        *self.reboots.entry(node.to_owned()).or_default() += 1;
        let here: Vec<Container> =
            self.containers.iter().filter(|((at, _), _)| at == node).map(|(_, one)| one.clone()).collect();
        for one in here {
            if matches!(one.state, State::Running | State::Paused | State::Held) {
                self.hurt.insert(one.workload.clone());
                self.kill(node, &one.id);
            }
        }
    }

    /// An agent is gone: what was only in its memory or on its connections.
    pub fn agent_died(&mut self, node: &str, keeper: bool) {
        let waited: Vec<Uuid> =
            self.expecting.iter().filter(|(at, _)| at == node).map(|(_, migration)| *migration).collect();
        self.expecting.retain(|(at, _)| at != node);
        for migration in waited {
            self.streams.insert(migration, Stream::Broken);
        }
        let mut doomed = Vec::new();
        for pages in self.pages.values_mut() {
            if pages.from.as_ref().is_some_and(|(at, _)| at == node) {
                (pages.going, pages.heard) = (false, false);
            }
            if let Some((at, container)) = pages.to.as_ref().filter(|(at, _)| at == node && pages.coming) {
                pages.coming = false;
                if !pages.whole {
                    doomed.push((at.clone(), container.clone()));
                }
            }
        }
        for (at, container) in doomed.into_iter().filter(|_| keeper) {
            self.kill(&at, &container);
        }
    }
}
