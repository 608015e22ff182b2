//! A destination whose agent ended while memory was on its way declares the container lost. All of it may have come just
//! before, and then the container lives; it must not, since a person may let the source's copy run now.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::{Arc, Mutex};

use fog_agent::engine::{Done, Engine, EngineConfig, Job, World};
use fog_agent::journal::ProcessIdentity;
use fog_agent::runtime::{Docker, DockerError};
use fog_api::agent::{Command, Failure, FailureKind, MemoryReport, Order, Outcome, Report, Role};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use uuid::Uuid;

const CONTAINER: &str = "c0ffee";
const INIT: i32 = 42;
const MIGRATION: Uuid = Uuid::from_u128(7);

/// A destination with one container, running or held, and the processes that were killed in it.
#[derive(Debug, Default)]
struct OneContainer {
    killed: Mutex<Vec<i32>>,
}

fn ready<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, T> {
    Box::pin(std::future::ready(value))
}

impl World for OneContainer {
    fn inspect<'a>(&'a self, container: &'a str) -> BoxFuture<'a, Result<Option<Value>, DockerError>> {
        assert_eq!(container, CONTAINER);
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
        false
    }

    fn memory_came<'a>(
        &'a self,
        _: &'a Engine,
        _: Uuid,
        _: &'a fog_agent::engine::Reporter,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        let lost = Failure { kind: FailureKind::Lost, message: "it can never come".to_owned(), log: Vec::new() };
        ready(Err(lost))
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
        unreachable!("what is declared lost stays for a person to look at")
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

    fn ship<'a>(&'a self, _: Job<'a>) -> BoxFuture<'a, Done> {
        unreachable!("this is no source")
    }

    fn memory_went<'a>(
        &'a self,
        _: &'a Engine,
        _: Uuid,
        _: Option<i32>,
    ) -> BoxFuture<'a, Result<Option<MemoryReport>, Failure>> {
        unreachable!("this is no source")
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

    let outcome = told(&agent(folder.path(), &world), Order::Settle, 2).await;
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
    let settled = told(&again, Order::Settle, 2).await;
    assert!(matches!(settled, Outcome::Done(_)), "{settled:?}");
    assert!(world.killed.lock().unwrap().is_empty());
}
