//! One simulated cluster, for some hours: faults and requests for most of an hour, then quiet, in which all has to settle.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fog_api::migration::Phase;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use crate::agent::Agent;
use crate::clock;
use crate::cluster::{Broken, Cluster, State};
use crate::disk::DISK;
use crate::network::Network;
use crate::orchestrator::{Orchestrator, POLICY};

const NODES: u8 = 3;
const WORKLOADS: u8 = 4;
const HOUR: Duration = Duration::from_secs(3600);
/// So long of an hour there are faults.
const FAULTS: Duration = Duration::from_secs(2700);
/// Faults over, everything has to settle within this time; the rest of the hour.
const SETTLE: Duration = Duration::from_secs(900);
/// What is still wrong is looked at so often.
const LOOK: Duration = Duration::from_secs(15);

/// What came of a run.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Result {
    /// Of the whole trace.
    pub hash: u64,
    /// Its lines.
    pub events: u64,
    /// Migrations that ended so.
    pub done: u64,
    /// Rolled back.
    pub rolled_back: u64,
    /// Failed.
    pub failed: u64,
    /// Faults that happened.
    pub faults: u64,
    /// What was promised and is not so.
    pub violations: Vec<String>,
    /// The newest lines, when there is a violation.
    pub lines: Vec<String>,
}

/// What was acknowledged to people.
#[derive(Debug, Default)]
struct Acknowledged {
    migrations: BTreeSet<Uuid>,
    policy: u64,
}

struct World {
    cluster: Cluster,
    network: Network,
    orchestrator: Orchestrator,
    agents: Vec<Agent>,
    acknowledged: Arc<Mutex<Acknowledged>>,
    faults: u64,
    /// Failed migrations that were looked at.
    judged: BTreeSet<Uuid>,
    /// How often a person said who keeps the workload of a failed migration.
    words: BTreeMap<Uuid, u32>,
    /// Workloads that post-copy lost in this hour.
    lost: BTreeSet<String>,
    /// What is to be mended, and when.
    later: Vec<(Instant, Mend)>,
}

/// The end of a fault.
#[derive(Debug, Clone)]
enum Mend {
    Orchestrator,
    Agent(usize),
    Way(usize),
    Apart(usize, usize),
    Docker(usize),
    Clock,
    /// Not a mend: the orchestrator dies, whose disk is slow.
    Dies,
}

/// Simulates.
pub async fn run(seed: u64, hours: u64, broken: Option<Broken>, tell: bool, folder: &Path) -> anyhow::Result<Result> {
    let cluster = Cluster::new(seed, broken, tell);
    let mut world = World {
        network: Network::default(),
        orchestrator: Orchestrator::new(folder),
        agents: (0..NODES).map(|index| Agent::new(index, folder)).collect(),
        acknowledged: Arc::default(),
        faults: 0,
        judged: BTreeSet::new(),
        words: BTreeMap::new(),
        lost: BTreeSet::new(),
        later: Vec::new(),
        cluster: cluster.clone(),
    };
    for number in 1..=WORKLOADS {
        let (node, workload) = (format!("n{}", number % NODES + 1), format!("w{number}"));
        let policy = if number % 2 == 0 { "always" } else { "no" };
        cluster.inner().create(&node, &workload, json!({"Name": policy}), None, State::Running);
        cluster.inner().workloads.insert(workload);
    }
    world.orchestrator.start(&cluster, &world.network).await?;
    for agent in &mut world.agents {
        agent.start(&cluster, &world.network).await?;
    }
    sleep(Duration::from_secs(60)).await;
    if broken == Some(Broken::ThawsOnATimer) {
        tokio::spawn(thaw_on_a_timer(cluster.clone()));
    }
    let begin = Instant::now();
    for hour in 0..hours as u32 {
        world.faults_until(begin + HOUR * hour + FAULTS).await?;
        world.settle(begin + HOUR * hour + FAULTS + SETTLE).await?;
        if !cluster.inner().violations.is_empty() {
            break;
        }
        sleep_until(begin + HOUR * (hour + 1)).await;
    }
    let mut result = Result { hash: cluster.hash(), faults: world.faults, ..Result::default() };
    if let Some(app) = world.orchestrator.app() {
        for migration in app.store.ended_since(jiff::Timestamp::UNIX_EPOCH).await? {
            match migration.phase {
                Phase::Done => result.done += 1,
                Phase::RolledBack => result.rolled_back += 1,
                _ => result.failed += 1,
            }
        }
    }
    let inner = cluster.inner();
    result.events = inner.events;
    result.violations.clone_from(&inner.violations);
    if !inner.violations.is_empty() {
        result.lines = inner.lines().cloned().collect();
    }
    Ok(result)
}

/// [`Broken::ThawsOnATimer`].
async fn thaw_on_a_timer(cluster: Cluster) {
    loop {
        sleep(Duration::from_secs(5)).await;
        cluster.change(|inner| {
            let late = clock::now().saturating_sub(Duration::from_secs(20));
            let frozen = inner.containers.iter().filter(|(_, one)| one.state == State::Paused && one.since < late);
            let frozen: Vec<(String, String)> = frozen.map(|(key, _)| key.clone()).collect();
            for (node, name) in frozen {
                inner.put(&node, &name, State::Running);
            }
        });
    }
}

impl World {
    async fn faults_until(&mut self, end: Instant) -> anyhow::Result<()> {
        self.cluster.inner().trouble = 1000;
        let mut fault = Instant::now() + self.pause(40, 240);
        let mut request = Instant::now() + self.pause(5, 60);
        let mut looked = Instant::now();
        loop {
            let mend = self.later.iter().map(|(at, _)| *at).min().unwrap_or(end);
            let next = fault.min(request).min(mend).min(end);
            sleep_until(next).await;
            let now = Instant::now();
            if now >= end || !self.cluster.inner().violations.is_empty() {
                return Ok(());
            }
            if now.duration_since(looked) >= LOOK {
                looked = now;
                self.orchestrator.look_back(&self.cluster)?;
            }
            self.mend_due(now).await?;
            if now >= fault {
                if self.cluster.below(10) < 7 {
                    self.aim(end).await;
                }
                self.fault()?;
                fault = Instant::now() + self.pause(10, 150);
            }
            if now >= request {
                self.request();
                request = Instant::now() + self.pause(3, 40);
            }
        }
    }

    /// Waits for the middle of a migration, where faults tell most.
    async fn aim(&self, end: Instant) {
        let late = (Instant::now() + Duration::from_secs(40)).min(end);
        let moves = || self.orchestrator.app().is_some_and(|app| !app.fleet().moving.is_empty());
        while !moves() && Instant::now() < late {
            sleep(Duration::from_millis(50)).await;
        }
        sleep(Duration::from_millis(self.cluster.below(2500))).await;
    }

    fn pause(&self, least_s: u64, most_s: u64) -> Duration {
        Duration::from_millis(least_s * 1000 + self.cluster.below((most_s - least_s) * 1000))
    }

    async fn mend_due(&mut self, now: Instant) -> anyhow::Result<()> {
        let (due, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.later).into_iter().partition(|(at, _)| *at <= now);
        self.later = rest;
        for (_, mend) in due {
            self.mend(mend).await?;
        }
        Ok(())
    }

    async fn mend(&mut self, mend: Mend) -> anyhow::Result<()> {
        match mend {
            Mend::Orchestrator if self.orchestrator.app().is_none() => {
                self.orchestrator.start(&self.cluster, &self.network).await?;
                self.nothing_acknowledged_is_lost(false).await?;
            }
            Mend::Agent(index) if !self.agents[index].runs() => {
                self.agents[index].start(&self.cluster, &self.network).await?;
            }
            Mend::Orchestrator | Mend::Agent(_) => {}
            Mend::Way(index) => self.network.cut(&self.agents[index].name, false, false),
            Mend::Apart(one, other) => {
                self.network.set_apart(&self.agents[one].name, &self.agents[other].name, false);
            }
            Mend::Docker(index) => {
                self.cluster.inner().docker_away.remove(&self.agents[index].name);
            }
            Mend::Clock => clock::set_right(),
            Mend::Dies => {
                self.orchestrator.die(&self.cluster, &self.network)?;
                self.later.push((Instant::now() + self.pause(1, 20), Mend::Orchestrator));
            }
        }
        Ok(())
    }

    fn fault(&mut self) -> anyhow::Result<()> {
        self.faults += 1;
        let index = self.cluster.below(u64::from(NODES)) as usize;
        let node = self.agents[index].name.clone();
        let soon = Instant::now() + self.pause(1, 20);
        let late = Instant::now() + self.pause(5, 300);
        match self.cluster.below(100) {
            0..14 => {
                self.orchestrator.die(&self.cluster, &self.network)?;
                self.later.push((soon, Mend::Orchestrator));
            }
            14..20 => {
                // It dies while the disk is busy: somewhere inside a transaction.
                self.cluster.say("the disk is slow");
                DISK.slow(self.pause(1, 30));
                if self.cluster.below(2) == 0 {
                    self.later.push((Instant::now() + self.pause(0, 3), Mend::Dies));
                }
            }
            20..40 => {
                self.agents[index].die(&self.cluster, &self.network)?;
                self.later.push((soon, Mend::Agent(index)));
            }
            40..44 => {
                self.agents[index].die(&self.cluster, &self.network)?;
                self.cluster.change(|inner| {
                    inner.say(format!("{node}: reboots"));
                    inner.reboot(&node);
                });
                self.later.push((late, Mend::Agent(index)));
            }
            44..58 => {
                let (up, down) = [(true, true), (true, false), (false, true)][self.cluster.below(3) as usize];
                self.cluster.say(format!("{node}: cut off from the orchestrator, up {up}, down {down}"));
                self.network.cut(&node, up, down);
                self.later.push((late, Mend::Way(index)));
            }
            58..68 => {
                let other = (index + 1) % usize::from(NODES);
                let other_node = self.agents[other].name.clone();
                self.cluster.say(format!("{node} and {other_node} do not reach each other"));
                self.network.set_apart(&node, &other_node, true);
                self.later.push((late, Mend::Apart(index, other)));
            }
            68..76 => {
                self.cluster.say(format!("{node}: its connection is reset"));
                self.network.reset(Some(&node));
            }
            76..80 => {
                let delay = Duration::from_millis(1 + self.cluster.below(4000));
                self.cluster.say(format!("{node}: its way takes {delay:?}"));
                self.network.set_delay(&node, delay);
            }
            80..86 => {
                self.cluster.inner().docker_away.insert(node.clone());
                self.cluster.say(format!("{node}: Docker is away"));
                self.later.push((late, Mend::Docker(index)));
            }
            86..92 => {
                let seconds = self.cluster.below(7200) as i64 - 3600;
                self.cluster.say(format!("the wall clocks jump by {seconds} s, that of {node} alone by half of it"));
                clock::jump(seconds);
                self.agents[index].clock_off_s.store(seconds / 2, std::sync::atomic::Ordering::Relaxed);
                self.later.push((late, Mend::Clock));
            }
            92..96 => self.user_takes(&node, false),
            _ => self.user_takes(&node, true),
        }
        Ok(())
    }

    /// A user stops or removes a container, whatever it is just now.
    fn user_takes(&mut self, node: &str, removes: bool) {
        self.cluster.change(|inner| {
            let here = inner.containers.iter().filter(|((at, _), _)| at == node).map(|(_, one)| one.clone());
            let here: Vec<_> = here.collect();
            if here.is_empty() {
                return;
            }
            let one = here[inner.random.usize(0..here.len())].clone();
            inner.hurt.insert(one.workload.clone());
            inner.say(format!("{node}: a user {} {}", if removes { "removes" } else { "stops" }, one.workload));
            if removes { inner.remove(node, &one.id) } else { inner.put(node, &one.id, State::Exited) }
        });
    }

    /// A person asks for something.
    fn request(&mut self) {
        // The load changes too, so that the planner has something to do.
        let index = self.cluster.below(u64::from(NODES)) as usize;
        let load = [0.1, 0.3, 0.95][self.cluster.below(3) as usize];
        *self.agents[index].load.lock().unwrap_or_else(PoisonError::into_inner) = load;
        let node = self.agents[index].name.clone();
        let workload = format!("w{}", self.cluster.below(u64::from(WORKLOADS)) + 1);
        let strategy = ["stop-and-copy", "pre-copy", "post-copy", "hybrid"][self.cluster.below(4) as usize];
        let (method, path, body) = match self.cluster.below(20) {
            0..10 => {
                let body = json!({"workload": workload, "destination": node, "strategy": strategy});
                ("POST", "/v1/migrations".to_owned(), body)
            }
            10..13 => {
                let moving = self.orchestrator.app().map(|app| app.fleet().moving.clone()).unwrap_or_default();
                let Some(moving) = moving.get(&workload) else { return };
                ("POST", format!("/v1/migrations/{}/cancel", moving.migration), Value::Null)
            }
            13 => ("POST", "/v1/drains".to_owned(), json!({"node": node})),
            14 | 19 => ("DELETE", format!("/v1/drains/{node}"), Value::Null),
            15 => ("POST", format!("/v1/nodes/{node}/cordon"), Value::Null),
            16 | 17 => ("POST", format!("/v1/nodes/{node}/uncordon"), Value::Null),
            18 => {
                let gain = 1 + self.cluster.below(10);
                let text = format!("min_gain = 0.{gain:02}\n{POLICY}");
                ("PUT", "/v1/policy".to_owned(), json!({"text": text}))
            }
            _ => return,
        };
        let Some(asked) = self.orchestrator.ask(method, &path, &body) else { return };
        let (cluster, acknowledged) = (self.cluster.clone(), Arc::clone(&self.acknowledged));
        tokio::spawn(async move {
            let answer = asked.await;
            let mut inner = cluster.inner();
            let Some((status, answer)) = answer else {
                return inner.say(format!("a person asks {method}: no answer"));
            };
            let migration = answer["id"].as_str().and_then(|id| id.parse::<Uuid>().ok());
            let what = match (path.as_str(), migration) {
                ("/v1/migrations", Some(id)) => format!("{} of {}", inner.name(id), body["workload"]),
                (_, Some(id)) => format!("about {}", inner.name(id)),
                (path, None) if path.contains("migrations") => "about a migration".to_owned(),
                (path, None) => path.to_owned(),
            };
            let reason = answer["detail"].as_str().unwrap_or_default().to_owned();
            let reason = if migration.is_none() && path.contains("migrations/") { "" } else { reason.as_str() };
            inner.say(format!("a person asks {method} {what}: {} {reason}", status.as_u16()));
            let mut acknowledged = acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
            if status.as_u16() == 202 && path == "/v1/migrations" {
                acknowledged.migrations.extend(migration);
            }
            if status.is_success() && path == "/v1/policy" {
                let version = answer["version"].as_u64().unwrap_or_default();
                acknowledged.policy = acknowledged.policy.max(version);
            }
        });
    }

    /// What people were told is so, also after a restart.
    async fn nothing_acknowledged_is_lost(&mut self, hour_is_over: bool) -> anyhow::Result<()> {
        let Some(app) = self.orchestrator.app().cloned() else { return Ok(()) };
        let (migrations, policy) = {
            let acknowledged = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
            (acknowledged.migrations.clone(), acknowledged.policy)
        };
        for id in migrations {
            if app.store.migration(id).await?.is_none() {
                let mut inner = self.cluster.inner();
                let name = inner.name(id);
                inner.violation(format!("migration {name} was acknowledged and is lost"));
            }
        }
        let version = app.policy.get().version;
        if version < policy {
            self.cluster.inner().violation(format!("policy {policy} was acknowledged and {version} is in force"));
        }
        let ended = app.store.ended_since(jiff::Timestamp::UNIX_EPOCH).await?;
        let mut inner = self.cluster.inner();
        for migration in ended {
            if migration.phase == Phase::RolledBack && !inner.seen_running.contains(&migration.id) {
                let name = inner.name(migration.id);
                inner.violation(format!("{name} is rolled back and its source was not seen running"));
            }
            if migration.phase == Phase::Failed
                && hour_is_over
                && self.judged.insert(migration.id)
                && !inner.hurt.contains(&migration.workload)
            {
                // Declared lost: the destination's agent died, or the way was cut for too long.
                let lives = |one: &crate::cluster::Container| {
                    one.mark == Some(migration.id) && matches!(one.state, State::Running | State::Held)
                };
                if inner.pages.contains_key(&migration.id) && inner.containers.values().any(lives) {
                    inner.violation(format!("{} is declared lost, and lives", migration.workload));
                }
                // What one migration has lost, another one cannot find.
                if !self.lost.contains(&migration.workload) {
                    let name = inner.name(migration.id);
                    inner.violation(format!("{name} of {} failed and nobody touched it", migration.workload));
                }
            }
        }
        Ok(())
    }

    /// No faults any more: everything comes to rest, and a person looks after what needs one.
    async fn settle(&mut self, end: Instant) -> anyhow::Result<()> {
        if !self.cluster.inner().violations.is_empty() {
            return Ok(());
        }
        {
            let mut inner = self.cluster.inner();
            inner.trouble = 0;
            inner.docker_away.clear();
            inner.say("no faults any more");
        }
        self.network.mend();
        clock::set_right();
        self.later.clear();
        self.mend(Mend::Orchestrator).await?;
        for index in 0..self.agents.len() {
            self.mend(Mend::Agent(index)).await?;
            self.network.set_delay(&self.agents[index].name, Duration::from_millis(5));
            self.agents[index].clock_off_s.store(0, std::sync::atomic::Ordering::Relaxed);
            *self.agents[index].load.lock().unwrap_or_else(PoisonError::into_inner) = 0.2;
            for (method, path) in [("DELETE", "/v1/drains/"), ("POST", "/v1/nodes/")] {
                let node = &self.agents[index].name;
                let path = if method == "POST" { format!("{path}{node}/uncordon") } else { format!("{path}{node}") };
                if let Some(asked) = self.orchestrator.ask(method, &path, &Value::Null) {
                    tokio::spawn(asked);
                }
            }
        }
        let mut wrong = Vec::new();
        while Instant::now() < end {
            sleep(LOOK).await;
            self.look_after().await?;
            wrong = self.what_is_wrong().await?;
            if wrong.is_empty() || !self.cluster.inner().violations.is_empty() {
                break;
            }
        }
        for what in wrong {
            self.cluster.inner().violation(format!("{what}, {} s after the last fault", SETTLE.as_secs()));
        }
        self.nothing_acknowledged_is_lost(true).await?;
        self.lost.clear();
        let mut inner = self.cluster.inner();
        inner.hurt.clear();
        inner.pages.clear();
        inner.say("all is well");
        Ok(())
    }

    /// Asks for a word on a failed migration. False: words do not help any more.
    fn decide(&mut self, migration: Uuid) -> bool {
        let word = self.words.entry(migration).or_default();
        *word += 1;
        let keep = match (*word, self.cluster.below(2)) {
            (1, 0) => "destination",
            (1 | 2, _) => "source",
            _ => return false,
        };
        let path = format!("/v1/migrations/{migration}/resolve");
        let Some(asked) = self.orchestrator.ask("POST", &path, &json!({ "keep": keep })) else { return true };
        let cluster = self.cluster.clone();
        tokio::spawn(async move {
            let answer = asked.await;
            let mut inner = cluster.inner();
            let name = inner.name(migration);
            let status = answer.map(|(status, answer)| {
                format!("{} {}", status.as_u16(), answer["detail"].as_str().unwrap_or_default())
            });
            inner.say(format!("a person has the {keep} of {name} keep it: {}", status.unwrap_or_default()));
        });
        true
    }

    /// What a person does: says who keeps the workload of a failed migration; starts what was stopped or is lost.
    async fn look_after(&mut self) -> anyhow::Result<()> {
        let Some(app) = self.orchestrator.app().cloned() else { return Ok(()) };
        let moving: BTreeSet<String> =
            app.store.unfinished_migrations().await?.into_iter().map(|stored| stored.record.workload).collect();
        let ended = app.store.ended_since(jiff::Timestamp::UNIX_EPOCH).await?;
        let open = ended.into_iter().filter(|one| one.phase == Phase::Failed && !self.judged.contains(&one.id));
        let open: Vec<_> = open.collect();
        let (mut failed, mut decided) = (BTreeSet::new(), BTreeSet::new());
        for one in open {
            let lost = self.cluster.inner().pages.contains_key(&one.id);
            if lost {
                self.lost.insert(one.workload.clone());
            }
            if lost && self.decide(one.id) {
                decided.insert(one.workload)
            } else {
                failed.insert(one.workload)
            };
        }
        self.cluster.change(|inner| {
            for workload in inner.workloads.clone() {
                if moving.contains(&workload)
                    || decided.contains(&workload)
                    || !(inner.hurt.contains(&workload) || failed.contains(&workload))
                {
                    continue;
                }
                let copies: Vec<(String, State, String)> = inner
                    .containers
                    .iter()
                    .filter(|((_, name), _)| *name == workload)
                    .map(|((node, _), one)| (node.clone(), one.state, one.id.clone()))
                    .collect();
                if copies.len() == 1 && copies[0].1 == State::Running {
                    continue;
                }
                inner.hurt.insert(workload.clone());
                let runs = copies.iter().any(|(_, state, _)| *state == State::Running);
                let best = copies.iter().find(|(_, state, _)| *state == State::Paused);
                let best = best.or_else(|| copies.iter().find(|(_, state, _)| *state == State::Exited)).cloned();
                for (node, state, id) in &copies {
                    if *state != State::Running && best.as_ref().is_none_or(|(_, _, best)| runs || best != id) {
                        inner.say(format!("{node}: a person removes what is left of {workload}"));
                        inner.remove(node, id);
                    }
                }
                match best {
                    _ if runs => {}
                    Some((node, _, id)) => {
                        inner.say(format!("{node}: a person brings {workload} back"));
                        inner.put(&node, &id, State::Running);
                    }
                    None => {
                        inner.say(format!("n1: a person starts {workload} anew"));
                        inner.create("n1", &workload, json!({"Name": "no"}), None, State::Running);
                    }
                }
            }
        });
        Ok(())
    }

    async fn what_is_wrong(&self) -> anyhow::Result<Vec<String>> {
        let Some(app) = self.orchestrator.app() else { return Ok(vec!["there is no orchestrator".to_owned()]) };
        let mut wrong = Vec::new();
        for stored in app.store.unfinished_migrations().await? {
            let name = self.cluster.inner().name(stored.record.id);
            wrong.push(format!("{name} of {} is still {}", stored.record.workload, stored.record.phase));
        }
        let owners = app.store.ownerships().await?;
        let inner = self.cluster.inner();
        for workload in &inner.workloads {
            let copies: Vec<(&String, State)> = inner
                .containers
                .iter()
                .filter(|((_, name), _)| name == workload)
                .map(|((node, _), one)| (node, one.state))
                .collect();
            let owner = owners.iter().find(|row| row.workload == *workload).and_then(|row| row.owner.as_ref());
            match copies.as_slice() {
                [(node, State::Running)] if Some(*node) == owner => {}
                copies => wrong.push(format!("{workload} has the copies {copies:?} and the owner {owner:?}")),
            }
        }
        Ok(wrong)
    }
}
