//! An agent by its contract: a journal, a fence, one lane a migration, and one container of the workload's name.

use fog_core::migration::Step;

use crate::network::Said;

/// What a node's container of the workload's name does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Container {
    /// There is none.
    #[default]
    None,
    /// Its tasks run.
    Running,
    /// Paused by `ship`, whole.
    Frozen,
    /// Made by `reserve`, nothing in it yet.
    Created,
    /// Restored, no task runs.
    Held,
}

/// The migrations of one workload that a model looks at.
pub const MIGRATIONS: usize = 2;

/// The container that was there at first.
pub const ORIGINAL: u8 = 9;

/// What the journal says of one migration: all of it survives the agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Record {
    pub(crate) exists: bool,
    pub(crate) container: Option<u8>,
    begun: u32,
    answers: [Option<Said>; Step::ALL.len()],
    pub(crate) froze: bool,
    pub(crate) resumed: bool,
    pub(crate) closed: bool,
    /// Memory travels after the commit and is not known to be whole at the destination.
    pub(crate) pending: bool,
    /// Destination: it is.
    pub(crate) came: bool,
}

impl Record {
    pub(crate) fn has_begun(&self, step: Step) -> bool {
        self.begun & (1 << step as u32) != 0
    }

    pub(crate) fn begin(&mut self, step: Step) {
        self.exists = true;
        self.begun |= 1 << step as u32;
    }

    pub(crate) fn answer(&self, step: Step) -> Option<Said> {
        self.answers[step as usize]
    }

    pub(crate) fn keep(&mut self, step: Step, said: Said) {
        self.answers[step as usize] = Some(said);
    }
}

/// The step under way, and how far it is: gone when the agent dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Running {
    pub(crate) step: Step,
    pub(crate) at: u8,
}

/// What an agent knows of a migration in memory only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Volatile {
    pub(crate) running: Option<Running>,
    /// `thaw` or `abandon` was heard: whatever runs ends soon.
    pub(crate) given_up: bool,
    /// The stream is admitted.
    pub(crate) expecting: bool,
    /// Every byte of it is here.
    pub(crate) arrived: bool,
    /// Source: sends the memory that only its frozen copy holds.
    pub(crate) going: bool,
    /// Destination: takes it in, and holds the restored processes' userfaultfds.
    pub(crate) coming: bool,
    /// Source: the destination has said that nothing is missing.
    pub(crate) heard: bool,
}

/// A node with its agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Agent {
    pub(crate) fence: u8,
    pub(crate) container: Container,
    /// Which container: the migration that made it, or [`ORIGINAL`].
    pub(crate) identity: u8,
    /// All of its memory is here.
    pub(crate) whole: bool,
    pub(crate) records: [Record; MIGRATIONS],
    pub(crate) memory: [Volatile; MIGRATIONS],
}

impl Agent {
    /// What its container does.
    pub fn container(&self) -> Container {
        self.container
    }

    pub(crate) fn put(&mut self, container: Container, identity: u8) {
        self.container = container;
        self.identity = identity;
        self.whole = true;
    }

    pub(crate) fn has(&self, identity: Option<u8>) -> bool {
        self.container != Container::None && identity == Some(self.identity)
    }

    /// SIGKILL and a new start. A process of its own, which outlives it, ends a container whose memory was coming in:
    /// with the last userfaultfd closed, every missing page would read as zeros.
    pub(crate) fn die(&mut self, keeper: bool) {
        if keeper && !self.whole && self.memory.iter().any(|memory| memory.coming) {
            self.container = Container::None;
        }
        self.memory = Default::default();
    }
}
