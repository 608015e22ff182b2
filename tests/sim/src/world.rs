//! The containers of all simulated nodes, and a witness of what must never happen to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use fog_api::agent::{Command, Failure, FailureKind, Order, Outcome, Report, Specification, Step};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::trouble::{Trouble, Troubles};

/// What a simulated container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its tasks run.
    Running,
    /// Frozen on the source.
    Frozen,
    /// Created on the destination, nothing restored.
    Reserved,
    /// Restored on the destination, no task runs.
    Held,
}

/// What a simulated container does with its node's cores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cpus {
    /// Cores that it uses.
    pub used: f64,
    /// Cores that it may use.
    pub limit: Option<f64>,
}

/// Decides that a step fails on a node; called once for every order that is carried out.
pub type Fault = Box<dyn Fn(&str, Step) -> Option<Failure> + Send + Sync>;

#[derive(Default)]
struct Inner {
    containers: BTreeMap<(String, String), State>,
    shipped: BTreeSet<Uuid>,
    broken: BTreeSet<Uuid>,
    orders: Vec<(String, Step, u64)>,
    /// The epoch that each migration began with; the second one after it is that of a person's word.
    began: BTreeMap<Uuid, u64>,
    cpus: BTreeMap<String, Cpus>,
    labels: BTreeMap<String, BTreeMap<String, String>>,
    violations: Vec<String>,
    fault: Option<Fault>,
    troubles: Option<Troubles>,
}

/// All containers of all simulated nodes.
#[derive(Default)]
pub struct World {
    inner: Mutex<Inner>,
    moved: Notify,
}

impl World {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A container runs on a node.
    pub fn run(&self, node: &str, workload: &str) {
        self.inner().containers.insert((node.into(), workload.into()), State::Running);
    }

    /// A container has this label.
    pub fn label(&self, workload: &str, label: &str, value: &str) {
        self.inner().labels.entry(workload.into()).or_default().insert(label.into(), value.into());
    }

    /// The labels of a container.
    pub fn labels(&self, workload: &str) -> BTreeMap<String, String> {
        self.inner().labels.get(workload).cloned().unwrap_or_default()
    }

    /// From now on a container uses so many cores; its limit stays, or is set the first time.
    pub fn burn(&self, workload: &str, used: f64, limit: Option<f64>) {
        let mut inner = self.inner();
        let limit = inner.cpus.get(workload).map_or(limit, |cpus| cpus.limit);
        inner.cpus.insert(workload.into(), Cpus { used, limit });
    }

    /// What a container does with its node's cores.
    pub fn cpus(&self, workload: &str) -> Cpus {
        self.inner().cpus.get(workload).copied().unwrap_or(Cpus { used: 0.02, limit: None })
    }

    /// Gives a container another limit, as `docker update` would.
    pub fn resize(&self, workload: &str, limit: f64) -> Option<String> {
        match self.inner().cpus.get_mut(workload) {
            Some(cpus) => {
                cpus.limit = Some(limit);
                None
            }
            None => Some("it has no limit".to_owned()),
        }
    }

    /// From now on `fault` decides which steps fail.
    pub fn set_fault(&self, fault: Fault) {
        self.inner().fault = Some(fault);
    }

    /// From now on `troubles` decides what agents do other than carry a step out and answer.
    pub fn set_troubles(&self, troubles: Troubles) {
        self.inner().troubles = Some(troubles);
    }

    /// The trouble with an order that arrives.
    pub fn trouble(&self, node: &str, step: Step) -> Option<Trouble> {
        self.inner().troubles.as_ref().and_then(|troubles| troubles(node, step))
    }

    /// What a node's Docker would list.
    pub fn containers(&self, node: &str) -> Vec<(String, State)> {
        let inner = self.inner();
        let of_node = inner.containers.iter().filter(|((at, _), state)| at == node && **state != State::Reserved);
        of_node.map(|((_, workload), state)| (workload.clone(), *state)).collect()
    }

    /// The nodes on which a workload's tasks run.
    pub fn running(&self, workload: &str) -> Vec<String> {
        let inner = self.inner();
        let running =
            inner.containers.iter().filter(|((_, name), state)| name == workload && **state == State::Running);
        running.map(|((node, _), _)| node.clone()).collect()
    }

    /// The nodes that hold anything of a workload.
    pub fn holding(&self, workload: &str) -> Vec<String> {
        let inner = self.inner();
        inner.containers.keys().filter(|(_, name)| name == workload).map(|(node, _)| node.clone()).collect()
    }

    /// Every order that was carried out, with its node and epoch.
    pub fn orders(&self) -> Vec<(String, Step, u64)> {
        self.inner().orders.clone()
    }

    /// What must never happen and did.
    pub fn violations(&self) -> Vec<String> {
        self.inner().violations.clone()
    }

    /// Carries an order out on a node, as an agent's engine would.
    pub async fn carry_out(&self, node: &str, command: &Command) -> Outcome {
        let step = command.order.step();
        {
            let mut inner = self.inner();
            inner.orders.push((node.into(), step, command.epoch));
            if let Some(failure) = inner.fault.as_ref().and_then(|fault| fault(node, step)) {
                if failure.kind == FailureKind::Gone {
                    inner.containers.remove(&(node.to_owned(), command.workload.clone())); // somebody removed it
                }
                if step == Step::Ship {
                    inner.broken.insert(command.migration);
                    self.moved.notify_waiters();
                }
                if step == Step::Ship && failure.kind != FailureKind::Gone {
                    inner.containers.insert((node.into(), command.workload.clone()), State::Frozen);
                }
                return Outcome::Failed(failure);
            }
        }
        if step == Step::Restore && !self.arrived(command.migration).await {
            return failed(FailureKind::Transfer, "the stream broke");
        }
        self.inner().carry_out(node, command).inspect_done(|| self.moved.notify_waiters())
    }

    /// Waits until the source has shipped; `false`: it broke or was abandoned.
    async fn arrived(&self, migration: Uuid) -> bool {
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            {
                let inner = self.inner();
                if inner.shipped.contains(&migration) {
                    return true;
                }
                if inner.broken.contains(&migration) {
                    return false;
                }
            }
            moved.await;
        }
    }
}

trait InspectDone {
    fn inspect_done(self, then: impl FnOnce()) -> Self;
}

impl InspectDone for Outcome {
    fn inspect_done(self, then: impl FnOnce()) -> Self {
        then();
        self
    }
}

impl Inner {
    fn carry_out(&mut self, node: &str, command: &Command) -> Outcome {
        let workload = &command.workload;
        let here = (node.to_owned(), workload.clone());
        let state = self.containers.get(&here).copied();
        let mut report = Report::default();
        let began = *self.began.entry(command.migration).or_insert(command.epoch);
        let persons_word = command.epoch >= began + 2;
        match &command.order {
            Order::Inspect { .. } => match state {
                Some(State::Running) => {
                    let inspect = serde_json::json!({ "Name": workload });
                    report.specification =
                        Some(Specification { name: workload.clone(), image: "sha256:simulated".into(), inspect });
                }
                _ => return failed(FailureKind::Refused, "the container does not run"),
            },
            Order::Reserve { .. } if self.broken.contains(&command.migration) => {
                return failed(FailureKind::Cancelled, "abandoned");
            }
            Order::Reserve { .. } => match state {
                None | Some(State::Reserved) => {
                    self.containers.insert(here, State::Reserved);
                }
                Some(_) => return failed(FailureKind::Refused, "the name is taken"),
            },
            Order::Ship { .. } => {
                if self.broken.contains(&command.migration) {
                    return failed(FailureKind::Cancelled, "abandoned");
                }
                self.containers.insert(here, State::Frozen);
                self.shipped.insert(command.migration);
                // Nothing is dumped and nothing travels, so there is nothing else to measure.
                report.frozen_ms = Some(0.0);
            }
            Order::Restore => {
                self.containers.insert(here, State::Held);
            }
            Order::Resume => {
                self.containers.insert(here, State::Running);
            }
            Order::Discard => {
                if state == Some(State::Running) {
                    self.violations.push(format!("{node} was told to discard the running {workload}"));
                }
                self.containers.remove(&here);
            }
            Order::Settle { .. } if persons_word && state.is_none() => {
                return failed(FailureKind::Gone, "the container is gone");
            }
            Order::Settle { .. } if persons_word => {
                self.containers.insert(here, State::Running);
            }
            Order::Settle { .. } => {}
            Order::Thaw => {
                if state.is_none() {
                    return failed(FailureKind::Gone, "the container is gone");
                }
                self.containers.insert(here, State::Running);
                self.broken.insert(command.migration);
                report.seen_running = Some(true);
            }
            Order::Abandon => {
                if state == Some(State::Running) && !persons_word {
                    self.violations.push(format!("{node} was told to abandon the running {workload}"));
                }
                self.containers.remove(&here);
                self.broken.insert(command.migration);
            }
        }
        let running =
            self.containers.iter().filter(|((_, name), state)| name == workload && **state == State::Running).count();
        if running > 1 {
            self.violations.push(format!("{workload} runs {running} times after {:?} on {node}", command.order.step()));
        }
        Outcome::Done(report)
    }
}

fn failed(kind: FailureKind, message: &str) -> Outcome {
    Outcome::Failed(Failure { kind, message: message.into(), log: Vec::new() })
}
