//! Messages under way: a small sorted set. Delivering one does not take it away (it may be repeated, late, or never);
//! losing it does.

use fog_core::migration::{FailureKind, Step};

/// What an agent answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Said {
    /// The step is done.
    Done,
    /// It failed.
    Failed(FailureKind),
}

/// Something that is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Message {
    /// To an agent.
    Order {
        /// Which of the workload's migrations.
        migration: u8,
        /// The step.
        step: Step,
    },
    /// To the orchestrator.
    Answer {
        /// Which of the workload's migrations.
        migration: u8,
        /// The step.
        step: Step,
        /// What came of it.
        said: Said,
    },
}

/// Bounded: more than this at once are not looked at.
pub const MOST: usize = 4;

/// The messages under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Network([Option<Message>; MOST]);

impl Network {
    /// With one more; `None` when the bound is reached.
    pub fn with(mut self, message: Message, bound: usize) -> Option<Network> {
        if self.0.contains(&Some(message)) {
            return Some(self);
        }
        let free = self.0.iter().take(bound.min(MOST)).position(Option::is_none)?;
        self.0[free] = Some(message);
        self.sort();
        Some(self)
    }

    /// Without it.
    pub fn without(mut self, message: Message) -> Network {
        for place in &mut self.0 {
            if *place == Some(message) {
                *place = None;
            }
        }
        self.sort();
        self
    }

    fn sort(&mut self) {
        self.0.sort_by_key(|message| (message.is_none(), *message));
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Message> + '_ {
        self.0.iter().flatten().copied()
    }
}
