//! What an agent may do other than carry a step out and answer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fog_api::agent::Step;

/// Something is done to somebody else.
pub type Deed = Arc<dyn Fn() + Send + Sync>;

/// The trouble with one order.
#[derive(Clone)]
pub enum Trouble {
    /// The agent dies before it does anything.
    DiesBefore,
    /// It dies in the middle; it knows afterwards that it had begun.
    DiesInside,
    /// It dies when the step is done and its answer is kept, but not sent.
    DiesAfter,
    /// It answers twice.
    AnswersTwice,
    /// It is stopped for so long, wakes and carries on.
    Sleeps(Duration),
    /// Something happens before it does anything.
    Before(Deed),
    /// Something happens when the step is done, before it answers.
    After(Deed),
}

impl fmt::Debug for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Trouble::DiesBefore => "DiesBefore",
            Trouble::DiesInside => "DiesInside",
            Trouble::DiesAfter => "DiesAfter",
            Trouble::AnswersTwice => "AnswersTwice",
            Trouble::Sleeps(_) => "Sleeps",
            Trouble::Before(_) => "Before",
            Trouble::After(_) => "After",
        })
    }
}

/// Decides what trouble there is with a step on a node; called once for every order that arrives.
pub type Troubles = Box<dyn Fn(&str, Step) -> Option<Trouble> + Send + Sync>;
