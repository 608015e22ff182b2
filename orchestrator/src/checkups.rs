//! Asks agents how their nodes are.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fog_api::agent::{CheckedUp, Checkup, ToAgent};
use fog_api::doctor::Check;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::app::Service;

/// An agent starts a few programs to find out.
const PATIENCE: Duration = Duration::from_secs(15);

/// Questions that agents have not answered yet.
#[derive(Default)]
pub struct Checkups(Mutex<BTreeMap<Uuid, oneshot::Sender<Vec<Check>>>>);

impl Checkups {
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<Uuid, oneshot::Sender<Vec<Check>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an agent's answer; one that nobody waits for is dropped.
    pub fn answered(&self, answer: CheckedUp) {
        let waiting = self.waiting().remove(&answer.id);
        if let Some(waiting) = waiting {
            let _ = waiting.send(answer.checks);
        }
    }
}

/// What the agent finds; or why nobody knows.
pub async fn ask(app: &Service, node: &str) -> Result<Vec<Check>, String> {
    let id = Uuid::new_v4();
    let (sender, answer) = oneshot::channel();
    app.checkups.waiting().insert(id, sender);
    let silent = if app.agents.send(node, ToAgent::Checkup(Checkup { id })) {
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(checks)) => return Ok(checks),
            _ => format!("the agent did not answer within {} s", PATIENCE.as_secs()),
        }
    } else {
        "the agent is not connected".to_owned()
    };
    app.checkups.waiting().remove(&id);
    Err(silent)
}
