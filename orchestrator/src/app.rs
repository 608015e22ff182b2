//! What every part of the service shares.

use std::sync::{Arc, Mutex, MutexGuard};

use tokio_util::sync::CancellationToken;

use crate::agents::Agents;
use crate::checkups::Checkups;
use crate::config::Config;
use crate::driver::Drivers;
use crate::events::Events;
use crate::fleet::Fleet;
use crate::metrics::Metrics;
use crate::policy::PolicyHolder;
use crate::preflight::Examinations;
use crate::proposals::Proposals;
use crate::pulse::Pulse;
use crate::resize::Resizes;
use crate::store::Store;
use crate::token::Tokens;
use crate::webhooks::Webhooks;

/// A handle on the running service; clones share it.
pub type App = Arc<Service>;

/// The running service.
pub struct Service {
    /// As configured.
    pub config: Config,
    /// What must survive.
    pub store: Store,
    /// The policy in force.
    pub policy: PolicyHolder,
    /// What is known now; use [`Service::fleet`].
    pub fleet: Mutex<Fleet>,
    /// The agents' open connections.
    pub agents: Agents,
    /// Who wants to hear what changes.
    pub events: Events,
    /// The running migrations.
    pub drivers: Drivers,
    /// What is counted.
    pub metrics: Metrics,
    /// What waits for a person's word.
    pub proposals: Proposals,
    /// Questions before migrations.
    pub examinations: Examinations,
    /// Questions about nodes.
    pub checkups: Checkups,
    /// Limits that are being changed.
    pub resizes: Resizes,
    /// How late the service is with its own work.
    pub pulse: Pulse,
    /// The administrator's token, and the agents'.
    pub token: String,
    /// Who is told of events elsewhere.
    pub webhooks: Webhooks,
    /// Everybody else's.
    pub tokens: Tokens,
    /// Cancelled once the service is to end.
    pub shutdown: CancellationToken,
}

impl Service {
    /// What is known now. Never held across an await.
    pub fn fleet(&self) -> MutexGuard<'_, Fleet> {
        self.fleet.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
