//! What happened, for the trace that leads to a broken promise.

use std::fmt;

use fog_core::migration::Step;

use crate::network::{Message, Said};
use crate::protocol::Happening;

/// Who did something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// The orchestrator or its database.
    Orchestrator,
    /// The network.
    Network,
    /// A node or its agent.
    Node(u8),
}

/// Something that happened.
#[derive(Debug, Clone, Copy)]
pub struct Action {
    /// Who.
    pub actor: Actor,
    pub(crate) what: What,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum What {
    Lost(Message),
    Heard(Message),
    Worked(Step, &'static str),
    Finished(Step, Said, bool),
    Happened(Happening),
    Committed { reply: bool },
    Restarted,
    AskedAgain(Step),
    Died,
    ThawedByItself,
    Late(Message),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = match self.actor {
            Actor::Orchestrator => "orchestrator",
            Actor::Network => "network",
            Actor::Node(node) => ["node A", "node B", "node C"][usize::from(node)],
        };
        write!(f, "{who:<13}")?;
        match self.what {
            What::Lost(message) => write!(f, "loses {message}"),
            What::Heard(message) => write!(f, "hears {message}"),
            What::Worked(step, what) => write!(f, "{step:?}: {what}"),
            What::Finished(step, said, kept) => {
                write!(f, "{step:?} ends: {said}{}", if kept { "" } else { " (not kept)" })
            }
            What::Happened(happening) => write!(f, "{happening:?}"),
            What::Committed { reply: true } => write!(f, "commits"),
            What::Committed { reply: false } => write!(f, "commits, and the database's reply is lost"),
            What::Restarted => write!(f, "dies and is started again"),
            What::AskedAgain(step) => write!(f, "orders {step:?} once more"),
            What::Died => write!(f, "dies and is started again"),
            What::ThawedByItself => write!(f, "thaws its container, as nobody called"),
            What::Late(message) => write!(f, "(of the past) {message}"),
        }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::Order { migration, step } => write!(f, "order {step:?} of migration {migration}"),
            Message::Answer { migration, step, said } => write!(f, "answer {step:?} {said} of migration {migration}"),
        }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Said::Done => f.write_str("done"),
            Said::Failed(kind) => write!(f, "failed ({kind:?})"),
        }
    }
}
