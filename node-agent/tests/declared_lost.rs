//! A destination whose agent ended while memory was on its way declares the container lost. All of it may have come just
//! before, and then the container lives; it must not, since a person may let the source's copy run now.
//! And a source whose processes have ended, by a reboot or a user, neither sends memory nor hears that it came.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use fog_agent::engine::{Done, Engine, EngineConfig, Job, World};
use fog_agent::journal::ProcessIdentity;
use fog_agent::runtime::{Docker, DockerError};
use fog_api::agent::{
    Command, Failure, FailureKind, MemoryOrder, MemoryReport, Order, Outcome, Peer, Report, Role, Ticket,
};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use uuid::Uuid;

const CONTAINER: &str = "c0ffee";
const INIT: i32 = 42;
const MIGRATION: Uuid = Uuid::from_u128(7);

/// A node with one container, running, held or frozen, and the processes that were killed in it.
#[derive(Debug, Default)]
struct OneContainer {
    killed: Mutex<Vec<i32>>,
    /// All of its memory is here, and the source does not hear so.
    unheard: bool,
    /// The source: its node was booted anew, and whether the container that was left is removed.
    rebooted: Option<AtomicBool>,
}

fn ready<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, T> {
    Box::pin(std::future::ready(value))
}

impl World for OneContainer {
    fn inspect<'a>(&'a self, container: &'a str) -> BoxFuture<'a, Result<Option<Value>, DockerError>> {
        assert_eq!(container, CONTAINER);
        if let Some(removed) = &self.rebooted {
            let left = json!({"State": {"Running": false, "Paused": false, "Pid": 0}});
            return ready(Ok((!removed.load(Ordering::Relaxed)).then_some(left)));
        }
        ready(Ok(Some(json!({"State": {"Running": true, "Paused": false, "Pid": INIT}}))))
    }

    fn kill_in_place(&self, init: i32) -> BoxFuture<'_, Result<(), Failure>> {
        self.killed.lock().unwrap().push(init);
        ready(Ok(()))
    }

    /// Its processes are there, and their memory is on its way.
    fn restore<'a>(&'a self, job: Job<'a>) -> BoxFuture<'a, Done> {
        Box::pin(async move {
            job.note(Role::Destination, |record| {
                record.container = Some(CONTAINER.to_owned());
                record.memory_pending = true;
            })
            .await?;
            Ok(Report::default())
        })
    }

    fn let_run(&self, _: i32, _: Vec<i32>) -> BoxFuture<'_, Result<Option<f64>, Failure>> {
        ready(Ok(Some(0.1)))
    }

    /// What had been taken in ended with the agent that did.
    fn memory_comes(&self, _: &Engine, _: Uuid) -> bool {
        self.unheard
    }

    fn memory_came<'a>(
        &'a self,
        _: &'a Engine,
        _: Uuid,
        _: &'a fog_agent::engine::Reporter,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        let (kind, message) = match self.unheard {
            true => (FailureKind::Transfer, "the source does not hear"),
            false => (FailureKind::Lost, "it can never come"),
        };
        ready(Err(Failure { kind, message: message.to_owned(), log: Vec::new() }))
    }

    fn unpause<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), DockerError>> {
        unreachable!("nothing is paused here")
    }

    fn start<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), DockerError>> {
        unreachable!("nothing is started anew")
    }

    fn daemon(&self) -> BoxFuture<'_, Option<String>> {
        ready(None)
    }

    fn remove<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), DockerError>> {
        let Some(removed) = &self.rebooted else { unreachable!("what is declared lost stays for a person to look at") };
        removed.store(true, Ordering::Relaxed);
        ready(Ok(()))
    }

    fn set_restart_policy<'a>(&'a self, _: &'a str, _: &'a Value) -> BoxFuture<'a, Result<(), DockerError>> {
        unreachable!("it never had one")
    }

    fn dump_ends(&self, _: ProcessIdentity) -> BoxFuture<'_, Result<bool, Failure>> {
        unreachable!("this is no source")
    }

    fn look<'a>(&'a self, _: Job<'a>) -> BoxFuture<'a, Done> {
        unreachable!("this is no source")
    }

    fn reserve<'a>(&'a self, _: Job<'a>) -> BoxFuture<'a, Done> {
        unreachable!("it is not asked to")
    }

    /// It is frozen, and its memory is to follow.
    fn ship<'a>(&'a self, job: Job<'a>) -> BoxFuture<'a, Done> {
        Box::pin(async move {
            job.note(Role::Source, |record| {
                record.container = Some(CONTAINER.to_owned());
                record.memory_pending = true;
            })
            .await?;
            Ok(Report::default())
        })
    }

    fn memory_went<'a>(
        &'a self,
        _: &'a Engine,
        _: Uuid,
        _: Option<i32>,
    ) -> BoxFuture<'a, Result<Option<MemoryReport>, Failure>> {
        unreachable!("its processes are gone, and their memory with them")
    }

    fn end_memory<'a>(&'a self, _: &'a Engine, _: Uuid) -> BoxFuture<'a, ()> {
        ready(())
    }
}

/// An agent; another one in the same folder is the same agent, started again.
fn agent(folder: &Path, world: &Arc<OneContainer>) -> Engine {
    let socket = folder.join("docker.sock");
    std::fs::write(&socket, "").unwrap();
    let config = EngineConfig {
        node: "B".to_owned(),
        state_dir: folder.join("state"),
        run_dir: folder.join("run"),
        images_dir: folder.join("images"),
        transfer_listen: "127.0.0.1:0".parse().unwrap(),
        docker_socket: socket.clone(),
    };
    Engine::in_world(config, Docker::new(&socket).unwrap(), Arc::clone(world) as Arc<dyn World>).unwrap()
}

async fn told(engine: &Engine, order: Order, epoch: u64) -> Outcome {
    let command = Command { migration: MIGRATION, workload: "web".to_owned(), epoch, order };
    let (progress, _heard) = mpsc::channel(1);
    engine.run(command, progress).await.outcome
}

fn is_lost(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failed(failure) if failure.kind == FailureKind::Lost)
}

#[tokio::test]
async fn a_held_copy_ends_before_it_is_declared_lost() {
    let (folder, world) = (tempfile::tempdir().unwrap(), Arc::new(OneContainer::default()));
    assert!(matches!(told(&agent(folder.path(), &world), Order::Restore, 1).await, Outcome::Done(_)));

    let outcome = told(&agent(folder.path(), &world), Order::Resume, 2).await;
    assert!(is_lost(&outcome), "{outcome:?}");
    assert_eq!(*world.killed.lock().unwrap(), [INIT]);
}

#[tokio::test]
async fn a_running_copy_ends_before_it_is_declared_lost() {
    let (folder, world) = (tempfile::tempdir().unwrap(), Arc::new(OneContainer::default()));
    assert!(matches!(told(&agent(folder.path(), &world), Order::Restore, 1).await, Outcome::Done(_)));

    let outcome = told(&agent(folder.path(), &world), Order::Settle { discarded: false }, 2).await;
    assert!(is_lost(&outcome), "{outcome:?}");
    assert_eq!(*world.killed.lock().unwrap(), [INIT]);
}

/// `tests/model` found it (`TellsBeforeNoting`): the source had heard that all of the memory is here and had removed its copy;
/// the agent ended before it closed the migration, was started again, and ended the only copy there was.
#[tokio::test]
async fn a_copy_whose_memory_is_known_to_be_whole_lives_on() {
    let (folder, world) = (tempfile::tempdir().unwrap(), Arc::new(OneContainer::default()));
    let before = agent(folder.path(), &world);
    assert!(matches!(told(&before, Order::Restore, 1).await, Outcome::Done(_)));
    before.memory_is_whole(MIGRATION).unwrap();
    drop(before);

    let again = agent(folder.path(), &world);
    let resumed = told(&again, Order::Resume, 2).await;
    assert!(matches!(resumed, Outcome::Done(_)), "{resumed:?}");
    let settled = told(&again, Order::Settle { discarded: false }, 2).await;
    assert!(matches!(settled, Outcome::Done(_)), "{settled:?}");
    assert!(world.killed.lock().unwrap().is_empty());
}

/// `tests/simulation` found it (seed 78): the source's node was booted anew before it heard that all of the memory had come. It
/// answered for ever that it could not send it any more, and the migration never ended.
#[tokio::test]
async fn a_source_whose_processes_are_gone_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let world = Arc::new(OneContainer { rebooted: Some(AtomicBool::new(false)), ..OneContainer::default() });
    let ship = Order::Ship {
        destination: Peer { node: "C".to_owned(), transfer_address: "127.0.0.1:1".to_owned(), runc: None },
        ticket: Ticket(String::new()),
        keep_connections: false,
        memory: MemoryOrder::default(),
        bind_mounts: Vec::new(),
    };
    assert!(matches!(told(&agent(folder.path(), &world), ship, 1).await, Outcome::Done(_)));

    let discarded = told(&agent(folder.path(), &world), Order::Discard, 2).await;
    assert!(matches!(discarded, Outcome::Done(_)), "{discarded:?}");
    assert!(world.rebooted.as_ref().unwrap().load(Ordering::Relaxed));
}

/// The other end of it (seed 55): the destination waited for ever for a source that could not hear any more.
#[tokio::test]
async fn who_is_discarded_need_not_hear() {
    let folder = tempfile::tempdir().unwrap();
    let world = Arc::new(OneContainer { unheard: true, ..OneContainer::default() });
    let engine = agent(folder.path(), &world);
    assert!(matches!(told(&engine, Order::Restore, 1).await, Outcome::Done(_)));
    engine.memory_is_whole(MIGRATION).unwrap();
    assert!(matches!(told(&engine, Order::Resume, 2).await, Outcome::Done(_)));

    let settled = told(&engine, Order::Settle { discarded: false }, 2).await;
    assert!(matches!(&settled, Outcome::Failed(failure) if failure.kind == FailureKind::Transfer), "{settled:?}");
    let settled = told(&engine, Order::Settle { discarded: true }, 2).await;
    assert!(matches!(settled, Outcome::Done(_)), "{settled:?}");
    assert!(world.killed.lock().unwrap().is_empty());
}
