//! The edge of the engine: what its steps do to containers, to processes and to the other node.
//!
//! [`Host`] does it on this machine and is the only one that the agent has. Tests bring another, so that the same fence,
//! journal, lanes, answers and steps that undo or finish a migration run where an agent can be ended between any two of
//! them (`tests/declared_lost.rs`). What is behind this edge is proven on real hosts instead.

use std::fmt::Debug;
use std::time::Instant;

use fog_api::agent::{Command, Failure, MemoryReport, Report, Role};
use futures_util::future::BoxFuture;
use rustix::process::Signal;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::failure::Cause;
use super::resume::PATIENCE;
use super::{
    Engine, Order, Reporter, blocking, dump, freeze, inspect, memory, ms_since, reserve, restore, ship, tasks,
};
use crate::journal::{ProcessIdentity, Record};
use crate::runtime::{Docker, DockerError};

/// One of the steps before the commit, whose work is all out there.
pub struct Job<'a> {
    /// The engine that was told.
    pub engine: &'a Engine,
    /// What it was told.
    pub command: &'a Command,
    /// Cancelled when the migration is given up.
    pub cancel: &'a CancellationToken,
    /// Tells how far it is.
    pub reporter: &'a Reporter,
}

impl Job<'_> {
    /// What this node knows of the migration.
    pub fn record(&self) -> Option<Record> {
        self.engine.0.record(self.command.migration)
    }

    /// Changes what this node knows of the migration, durably.
    pub async fn note(&self, role: Role, change: impl FnOnce(&mut Record) + Send + 'static) -> Result<Record, Failure> {
        Ok(self.engine.0.note(self.command, role, change).await?)
    }
}

/// What became of such a step.
pub type Done = Result<Report, Failure>;

/// What the engine does to the world.
pub trait World: Debug + Send + Sync {
    /// `docker inspect`; `None` where there is no such container.
    fn inspect<'a>(&'a self, container: &'a str) -> BoxFuture<'a, Result<Option<Value>, DockerError>>;

    /// Thaws every task.
    fn unpause<'a>(&'a self, container: &'a str) -> BoxFuture<'a, Result<(), DockerError>>;

    /// Thaws tasks below `init` that the kernel holds frozen though Docker knows of no pause; `false`: they stay frozen.
    fn melt(&self, init: i32) -> BoxFuture<'_, Result<bool, Failure>> {
        let _ = init;
        Box::pin(async { Ok(true) })
    }

    /// Freezes tasks below `init` that run though Docker holds them for paused, so that it can thaw them; `false`: they run.
    fn freeze_again(&self, init: i32) -> BoxFuture<'_, Result<bool, Failure>> {
        let _ = init;
        Box::pin(async { Ok(true) })
    }

    /// Starts a container anew, as Docker starts any.
    fn start<'a>(&'a self, container: &'a str) -> BoxFuture<'a, Result<(), DockerError>>;

    /// Which Docker daemon runs; `None`: that is not known.
    fn daemon(&self) -> BoxFuture<'_, Option<String>>;

    /// Kills and removes a container.
    fn remove<'a>(&'a self, container: &'a str) -> BoxFuture<'a, Result<(), DockerError>>;

    /// Sets the restart policy.
    fn set_restart_policy<'a>(
        &'a self,
        container: &'a str,
        policy: &'a Value,
    ) -> BoxFuture<'a, Result<(), DockerError>>;

    /// Lets the held tasks below `init` run, but those in `stay`. How many milliseconds that took; `None`: some do not.
    fn let_run(&self, init: i32, stay: Vec<i32>) -> BoxFuture<'_, Result<Option<f64>, Failure>>;

    /// Kills every task where it is, before anything can let it run.
    fn kill_in_place(&self, init: i32) -> BoxFuture<'_, Result<(), Failure>>;

    /// Waits for a dump that an earlier run of this agent began; `false`: it does not end.
    fn dump_ends(&self, dump: ProcessIdentity) -> BoxFuture<'_, Result<bool, Failure>>;

    /// Source: reads the configuration, refuses what cannot move.
    fn look<'a>(&'a self, job: Job<'a>) -> BoxFuture<'a, Done>;

    /// Destination: makes the container and waits for the stream.
    fn reserve<'a>(&'a self, job: Job<'a>) -> BoxFuture<'a, Done>;

    /// Source: freezes, dumps, sends.
    fn ship<'a>(&'a self, job: Job<'a>) -> BoxFuture<'a, Done>;

    /// Destination: restores, held.
    fn restore<'a>(&'a self, job: Job<'a>) -> BoxFuture<'a, Done>;

    /// Destination: whether memory of the container is being taken in.
    fn memory_comes(&self, engine: &Engine, migration: Uuid) -> bool;

    /// Destination: waits until nothing is missing.
    fn memory_came<'a>(
        &'a self,
        engine: &'a Engine,
        migration: Uuid,
        reporter: &'a Reporter,
    ) -> BoxFuture<'a, Result<(), Failure>>;

    /// Source: waits until the destination has said that nothing is missing.
    fn memory_went<'a>(
        &'a self,
        engine: &'a Engine,
        migration: Uuid,
        init: Option<i32>,
    ) -> BoxFuture<'a, Result<Option<MemoryReport>, Failure>>;

    /// No memory of this migration moves any more. What was let run without all of it is dead then.
    fn end_memory<'a>(&'a self, engine: &'a Engine, migration: Uuid) -> BoxFuture<'a, ()>;
}

/// This machine.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) docker: Docker,
}

fn said(result: Result<Report, Cause>) -> Done {
    Ok(result?)
}

impl World for Host {
    fn inspect<'a>(&'a self, container: &'a str) -> BoxFuture<'a, Result<Option<Value>, DockerError>> {
        Box::pin(self.docker.inspect(container))
    }

    fn unpause<'a>(&'a self, container: &'a str) -> BoxFuture<'a, Result<(), DockerError>> {
        Box::pin(self.docker.unpause(container))
    }

    fn melt(&self, init: i32) -> BoxFuture<'_, Result<bool, Failure>> {
        Box::pin(async move { Ok(blocking(move || freeze::melt(init)).await?) })
    }

    fn freeze_again(&self, init: i32) -> BoxFuture<'_, Result<bool, Failure>> {
        Box::pin(async move { Ok(blocking(move || freeze::again(init)).await?) })
    }

    fn start<'a>(&'a self, container: &'a str) -> BoxFuture<'a, Result<(), DockerError>> {
        Box::pin(self.docker.start(container))
    }

    fn daemon(&self) -> BoxFuture<'_, Option<String>> {
        Box::pin(async { blocking(crate::runtime::daemon).await.ok().flatten() })
    }

    fn remove<'a>(&'a self, container: &'a str) -> BoxFuture<'a, Result<(), DockerError>> {
        Box::pin(self.docker.remove(container))
    }

    fn set_restart_policy<'a>(
        &'a self,
        container: &'a str,
        policy: &'a Value,
    ) -> BoxFuture<'a, Result<(), DockerError>> {
        Box::pin(self.docker.set_restart_policy(container, policy))
    }

    fn let_run(&self, init: i32, stay: Vec<i32>) -> BoxFuture<'_, Result<Option<f64>, Failure>> {
        let began = Instant::now();
        let runs = blocking(move || {
            // Children first: a parent must not see a child that is still stopped.
            for task in tasks::of_container(init).iter().filter(|task| !stay.contains(&task.inner_pid)) {
                tasks::signal(task.pid, Signal::CONT);
            }
            let continued = ms_since(began);
            let runs = tasks::wait_until(PATIENCE, || {
                let tasks = tasks::of_container(init);
                tasks.iter().all(|task| stay.contains(&task.inner_pid) || !task.is_stopped())
            });
            runs.then_some(continued)
        });
        Box::pin(async move { Ok(runs.await?) })
    }

    fn kill_in_place(&self, init: i32) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move { Ok(blocking(move || tasks::kill_in_place(init)).await?) })
    }

    fn dump_ends(&self, dump: ProcessIdentity) -> BoxFuture<'_, Result<bool, Failure>> {
        Box::pin(async move { Ok(blocking(move || dump::wait_for_orphan(dump)).await?) })
    }

    fn look<'a>(&'a self, job: Job<'a>) -> BoxFuture<'a, Done> {
        Box::pin(async move {
            let Order::Inspect { bind_mounts } = &job.command.order else { return Err(another()) };
            said(inspect::inspect(&job.engine.0, job.command, bind_mounts).await)
        })
    }

    fn reserve<'a>(&'a self, job: Job<'a>) -> BoxFuture<'a, Done> {
        Box::pin(async move {
            let Order::Reserve { specification, ticket, source } = &job.command.order else { return Err(another()) };
            said(reserve::reserve(&job.engine.0, job.command, specification, ticket, source).await)
        })
    }

    fn ship<'a>(&'a self, job: Job<'a>) -> BoxFuture<'a, Done> {
        Box::pin(async move {
            let Order::Ship { destination, ticket, keep_connections, memory, bind_mounts } = &job.command.order else {
                return Err(another());
            };
            let way = ship::Way { destination, ticket, keep_connections: *keep_connections, memory, bind_mounts };
            said(ship::ship(&job.engine.0, job.command, way, job.cancel, job.reporter).await)
        })
    }

    fn restore<'a>(&'a self, job: Job<'a>) -> BoxFuture<'a, Done> {
        Box::pin(async move { said(restore::restore(&job.engine.0, job.command, job.cancel, job.reporter).await) })
    }

    fn memory_comes(&self, engine: &Engine, migration: Uuid) -> bool {
        engine.0.memory.coming(migration).is_some()
    }

    fn memory_came<'a>(
        &'a self,
        engine: &'a Engine,
        migration: Uuid,
        reporter: &'a Reporter,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move { Ok(memory::settled(&engine.0, migration, reporter).await?) })
    }

    fn memory_went<'a>(
        &'a self,
        engine: &'a Engine,
        migration: Uuid,
        init: Option<i32>,
    ) -> BoxFuture<'a, Result<Option<MemoryReport>, Failure>> {
        Box::pin(async move { Ok(memory::drained(&engine.0, migration, init).await?) })
    }

    fn end_memory<'a>(&'a self, engine: &'a Engine, migration: Uuid) -> BoxFuture<'a, ()> {
        Box::pin(engine.0.memory.stop(migration))
    }
}

fn another() -> Failure {
    Cause::refused("This is another step's order.").into()
}
