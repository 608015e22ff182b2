//! What changes, for everybody who listens.

use fog_api::event::Event;
use tokio::sync::broadcast;

/// How many events a slow listener may lag behind before it has to fetch the state anew.
const BACKLOG: usize = 4096;

/// The bus.
#[derive(Debug, Clone)]
pub struct Events(broadcast::Sender<Event>);

impl Default for Events {
    fn default() -> Self {
        Self(broadcast::Sender::new(BACKLOG))
    }
}

impl Events {
    /// Tells everybody who listens.
    pub fn tell(&self, event: Event) {
        // An error only says that nobody listens.
        let _ = self.0.send(event);
    }

    /// Whether anybody listens.
    pub fn heard(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Everything from now on.
    pub fn listen(&self) -> broadcast::Receiver<Event> {
        self.0.subscribe()
    }
}
