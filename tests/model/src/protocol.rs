//! fog-core's state machine, with its states numbered so that a state of the model stays small.

use std::cell::RefCell;
use std::collections::HashMap;

use fog_core::migration::{Cause, Command, Event, Failure, FailureKind, Migration, Phase, Step};
use indexmap::IndexSet;

use crate::broken::Broken;
use crate::network::Said;

/// A numbered [`Migration`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(u16);

/// What can happen to a migration, without words for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Happening {
    /// [`Event::Begin`].
    Begin,
    /// [`Event::Answered`].
    Answered(Step, Said),
    /// [`Event::Committed`].
    Committed,
    /// [`Event::CommitRefused`].
    CommitRefused,
    /// [`Event::Stalled`] or [`Event::Cancelled`], which differ only in their words.
    Stalled,
}

type Steps = HashMap<(Number, Happening), (Number, Vec<Command>)>;

/// The real machine, or one with a rule taken away.
pub struct Protocol {
    broken: Option<Broken>,
    states: RefCell<IndexSet<Migration>>,
    steps: RefCell<Steps>,
}

impl Protocol {
    /// The protocol.
    pub fn new(broken: Option<Broken>) -> Protocol {
        Protocol { broken, states: RefCell::default(), steps: RefCell::default() }
    }

    /// Where every migration begins.
    pub fn start(&self) -> Number {
        self.number(Migration::default())
    }

    /// The migration behind a number.
    pub fn look<T>(&self, number: Number, at: impl FnOnce(&Migration) -> T) -> T {
        at(&self.states.borrow()[usize::from(number.0)])
    }

    /// The number of a migration of another protocol.
    pub fn known(&self, migration: Migration) -> Number {
        self.number(migration)
    }

    /// How many states of the machine itself were met.
    pub fn met(&self) -> usize {
        self.states.borrow().len()
    }

    fn number(&self, mut migration: Migration) -> Number {
        // Why it is rolled back is for people; the protocol only knows that it is.
        if let Some(cause) = &mut migration.cause {
            *cause = Cause { step: None, message: String::new(), log: Vec::new(), symptom: false };
        }
        let (index, _) = self.states.borrow_mut().insert_full(migration);
        Number(u16::try_from(index).expect("the machine itself has a handful of states"))
    }

    /// One step of the machine.
    pub fn step(&self, number: Number, happening: Happening) -> (Number, Vec<Command>) {
        if let Some(known) = self.steps.borrow().get(&(number, happening)) {
            return known.clone();
        }
        let before = self.look(number, Clone::clone);
        let (after, commands) = self.break_rule(before, happening);
        let result = (self.number(after), commands);
        self.steps.borrow_mut().insert((number, happening), result.clone());
        result
    }

    fn break_rule(&self, before: Migration, happening: Happening) -> (Migration, Vec<Command>) {
        let shipped = happening == Happening::Answered(Step::Ship, Said::Done);
        let undone = happening == Happening::Stalled;
        match self.broken {
            Some(Broken::CommitsBeforeRestored) if shipped && before.phase == Phase::Moving => {
                let (between, _) = before.step(event(happening));
                if between.phase == Phase::Committing {
                    return (between, vec![Command::Commit]);
                }
                between.step(event(Happening::Answered(Step::Restore, Said::Done)))
            }
            Some(Broken::RollsBackAfterCommit) if undone && before.phase == Phase::Resuming => {
                let (rolling, commands) = Migration { phase: Phase::Moving, ..before }.step(event(happening));
                (rolling, commands)
            }
            Some(Broken::DiscardsBeforeResume) if happening == Happening::Committed => {
                let (mut after, mut commands) = before.step(event(happening));
                if !commands.is_empty() {
                    after.outstanding.insert(Step::Discard);
                    commands.push(Command::Order(Step::Discard));
                }
                (after, commands)
            }
            Some(Broken::ReportsBeforeSeenRunning) => {
                let (mut after, commands) = before.step(event(happening));
                if commands.contains(&Command::Order(Step::Thaw)) {
                    after.phase = Phase::RolledBack;
                }
                (after, commands)
            }
            _ => before.step(event(happening)),
        }
    }
}

fn event(happening: Happening) -> Event {
    match happening {
        Happening::Begin => Event::Begin,
        Happening::Answered(step, Said::Done) => Event::Answered { step, outcome: Ok(()) },
        Happening::Answered(step, Said::Failed(kind)) => Event::Answered { step, outcome: Err(failure(kind)) },
        Happening::Committed => Event::Committed,
        Happening::CommitRefused => Event::CommitRefused { message: String::new() },
        Happening::Stalled => Event::Stalled { message: String::new() },
    }
}

fn failure(kind: FailureKind) -> Failure {
    Failure { kind, message: String::new(), log: Vec::new() }
}
