//! The migration protocol as a value: events in, commands out.
//!
//! ```text
//!            inspect           reserve            ship ∥ restore          one transaction
//! Begin ──► Inspecting ──────► Reserving ──────► Moving ───────────────► Committing
//!               │                 │                 │                     │      │
//!               └────── failure, stall, cancel ─────┴──── refused ────────┘      │ committed
//!                                 ▼                                              ▼
//!                            RollingBack ── thaw: gone ──► Failed           Resuming ── resume: gone ──► Failed
//!                                 │ thaw: seen running                           │ resume
//!                                 ▼                                              ▼
//!                            RolledBack                                     Discarding ── discard ∥ settle ──► Done
//!
//!            abandon           one transaction          thaw: seen running
//! keep the source ──► RollingBack ──► Committing ──► RollingBack ──► RolledBack      a person's word, see `resolve.rs`:
//! keep the destination ─────────────► Committing ──► Discarding ───► Done            from Failed, Resuming, Discarding
//!                        one transaction   settle: seen running, discard
//! ```
//!
//! | phase | who runs it | who holds a frozen copy | a failure there |
//! |---|---|---|---|
//! | Inspecting, Reserving | source | nobody | rolls back: nothing was touched on the source |
//! | Moving | nobody | source; the destination builds one, held | rolls back: abandon ∥ thaw |
//! | Committing | nobody | both | a refused transaction rolls back; a lost reply is asked again |
//! | Resuming | destination, from the step's success on | source | the step is repeated; only `gone` ends it, as Failed |
//! | Discarding | destination | source, until discarded or its processes are gone | the steps are repeated until done |
//! | RollingBack | source, from the step's success on | destination, until abandoned | the steps are repeated; only `gone` ends it |
//! | Failed, not committed | nobody: somebody removed or stopped the source's | nobody | it is the source's; there is nothing to undo |
//! | Failed, committed | nobody: the destination's is gone, or lost memory | source | nothing is ordered until a person says which end to keep |
//! | RollingBack, by a person's word | nobody, then the source | source; the destination's is removed first | the steps are repeated; `gone` at the source ends it as Failed |
//! | Committing, by a person's word | nobody | source | a refused transaction ends it as Failed again; a lost reply is asked again |
//! | Discarding, by a person's word | destination, from `settle`'s success on | source, until then | the steps are repeated; `gone` at the destination ends it as Failed, with the source's copy whole |
//!
//! Two rules make it safe. Steps before the commit can only be undone, steps after it only be done
//! again: no state orders both `resume` and `thaw`. And a restored copy is held, no task of it runs,
//! until `resume`, which is ordered only after the commit. So a destination that cannot be reached
//! never stops a roll back.

mod resolve;

pub use resolve::{Resolution, Resolve, ResolveRefusal};

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Which end carries a step out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The node that has the container.
    Source,
    /// The node that is to have it.
    Destination,
}

/// What an agent is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Source: read the configuration, refuse what cannot move.
    Inspect,
    /// Destination: create the container, wait for the stream.
    Reserve,
    /// Source: freeze, dump, ship.
    Ship,
    /// Destination: restore, held.
    Restore,
    /// Destination: let it run.
    Resume,
    /// Source: remove the frozen copy.
    Discard,
    /// Destination: restart policy back, clean up.
    Settle,
    /// Source, rolling back: let it run again.
    Thaw,
    /// Destination, rolling back: remove the held copy.
    Abandon,
}

impl Step {
    /// Every step, in the order of a migration that nothing disturbs; those that undo come last.
    pub const ALL: [Step; 9] = [
        Step::Inspect,
        Step::Reserve,
        Step::Ship,
        Step::Restore,
        Step::Resume,
        Step::Discard,
        Step::Settle,
        Step::Thaw,
        Step::Abandon,
    ];

    /// Which end carries it out.
    pub const fn role(self) -> Role {
        match self {
            Step::Inspect | Step::Ship | Step::Discard | Step::Thaw => Role::Source,
            Step::Reserve | Step::Restore | Step::Resume | Step::Settle | Step::Abandon => Role::Destination,
        }
    }

    /// Whether it comes after the commit and therefore belongs to the destination's epoch.
    pub const fn is_after_commit(self) -> bool {
        matches!(self, Step::Resume | Step::Discard | Step::Settle)
    }

    /// Whether it is repeated until it succeeds.
    const fn is_repeated(self) -> bool {
        matches!(self, Step::Resume | Step::Discard | Step::Settle | Step::Thaw | Step::Abandon)
    }
}

/// Where a migration stands. See the diagram above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The source reads the configuration.
    Inspecting,
    /// The destination makes room.
    Reserving,
    /// Frozen; the state travels.
    Moving,
    /// Ownership is being written.
    Committing,
    /// The destination owns it and lets it run.
    Resuming,
    /// It runs on the destination; the source's copy is being removed.
    Discarding,
    /// Over: it runs on the destination, nothing is left behind.
    Done,
    /// The source is being thawed.
    RollingBack,
    /// Over: the source was seen running.
    RolledBack,
    /// Over, and a person must look.
    Failed,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Phase; 10] = [
        Phase::Inspecting,
        Phase::Reserving,
        Phase::Moving,
        Phase::Committing,
        Phase::Resuming,
        Phase::Discarding,
        Phase::Done,
        Phase::RollingBack,
        Phase::RolledBack,
        Phase::Failed,
    ];

    /// Whether the workload's fate in this migration is decided.
    pub const fn is_over(self) -> bool {
        matches!(self, Phase::Done | Phase::RolledBack | Phase::Failed)
    }

    /// Whether the destination owns the workload.
    pub const fn is_committed(self) -> bool {
        matches!(self, Phase::Resuming | Phase::Discarding | Phase::Done)
    }

    /// Whether a failure, a stall or a cancellation still rolls back.
    const fn can_roll_back(self) -> bool {
        matches!(self, Phase::Inspecting | Phase::Reserving | Phase::Moving)
    }
}

/// Why a migration did not end as asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cause {
    /// The step that failed, if it was one.
    pub step: Option<Step>,
    /// One sentence for people.
    pub message: String,
    /// The last lines of the log that shows it.
    pub log: Vec<String>,
    /// It may only follow from a failure at the other end, which is still to be heard of.
    #[serde(default)]
    pub symptom: bool,
}

impl Cause {
    fn of(step: Step, failure: Failure) -> Self {
        let symptom = failure.kind == FailureKind::Stream;
        Self { step: Some(step), message: failure.message, log: failure.log, symptom }
    }

    fn outside(step: Option<Step>, message: String) -> Self {
        Self { step, message, log: Vec::new(), symptom: false }
    }
}

/// What the protocol has to tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureKind {
    /// The container is not there any more: repeating cannot help.
    Gone,
    /// The stream between the two ends broke: the other end may know why.
    Stream,
    /// Memory that the destination's running container needs can never come.
    Lost,
    /// The step was overtaken by the roll back.
    Cancelled,
    /// Anything else.
    Other,
}

impl FailureKind {
    /// Every kind.
    pub const ALL: [FailureKind; 5] =
        [FailureKind::Gone, FailureKind::Stream, FailureKind::Lost, FailureKind::Cancelled, FailureKind::Other];
}

/// How a step failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure.
    pub kind: FailureKind,
    /// One sentence for people.
    pub message: String,
    /// The last lines of the log that shows it.
    pub log: Vec<String>,
}

/// What happens to a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It was written down and starts.
    Begin,
    /// An agent answered.
    Answered {
        /// The step.
        step: Step,
        /// What came of it.
        outcome: Result<(), Failure>,
    },
    /// The ownership transaction is durable.
    Committed,
    /// The ownership transaction did not take place and never will.
    CommitRefused {
        /// Why.
        message: String,
    },
    /// Nothing moved for longer than the policy allows.
    Stalled {
        /// What was waited for, and how long.
        message: String,
    },
    /// Somebody asked to stop.
    Cancelled {
        /// Who.
        by: String,
    },
    /// A person said which end is to keep the workload. One that [`Migration::resolvable`] refuses changes nothing.
    Resolved(Resolve),
}

/// What is to be done about it. Nothing in a command leaves the executor a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Tell the step's agent to carry it out; repeat after every reconnect until it is answered.
    Order(Step),
    /// Like `Order`, after a pause: it failed and must succeed.
    OrderAgain(Step),
    /// Write the ownership in one transaction together with the state that [`Event::Committed`] leads to.
    Commit,
}

/// A migration's state: everything the protocol needs to go on after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Migration {
    /// Where it stands.
    pub phase: Phase,
    /// Steps that were ordered and not answered.
    pub outstanding: BTreeSet<Step>,
    /// The destination may hold something of this migration.
    pub reserved: bool,
    /// Why it is being or was rolled back, or failed.
    pub cause: Option<Cause>,
    /// A person's word on it, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<Resolution>,
}

impl Default for Migration {
    fn default() -> Self {
        Self { phase: Phase::Inspecting, outstanding: BTreeSet::new(), reserved: false, cause: None, resolution: None }
    }
}

impl Migration {
    /// Whether nothing is left to do, on either end.
    pub fn is_finished(&self) -> bool {
        self.phase.is_over() && self.outstanding.is_empty()
    }

    /// What a restarted orchestrator has to do: everything that is not known to be done.
    pub fn resume(&self) -> Vec<Command> {
        if self.phase == Phase::Committing {
            return vec![Command::Commit];
        }
        self.outstanding.iter().copied().map(Command::Order).collect()
    }

    /// The state after an event, and what to do. An event that no longer matters changes nothing.
    #[must_use]
    pub fn step(mut self, event: Event) -> (Self, Vec<Command>) {
        let commands = match event {
            Event::Begin if self.phase == Phase::Inspecting && self.outstanding.is_empty() => {
                self.order(&[Step::Inspect])
            }
            Event::Begin => Vec::new(),
            Event::Answered { step, outcome } => self.answered(step, outcome),
            Event::Resolved(word) => self.resolved(word),
            Event::Committed if self.phase == Phase::Committing && self.resolution.is_some() => self.owned(),
            Event::CommitRefused { message } if self.phase == Phase::Committing && self.resolution.is_some() => {
                self.not_owned(message)
            }
            Event::Committed if self.phase == Phase::Committing => {
                self.phase = Phase::Resuming;
                self.order(&[Step::Resume])
            }
            Event::CommitRefused { message } if self.phase == Phase::Committing => {
                self.roll_back(Cause::outside(None, message))
            }
            Event::Stalled { message } if self.phase.can_roll_back() => {
                let step = self.outstanding.first().copied();
                self.roll_back(Cause::outside(step, message))
            }
            Event::Cancelled { by } if self.phase.can_roll_back() => {
                self.roll_back(Cause::outside(None, format!("Cancelled by {by}.")))
            }
            Event::Committed | Event::CommitRefused { .. } | Event::Stalled { .. } | Event::Cancelled { .. } => {
                Vec::new()
            }
        };
        (self, commands)
    }

    fn answered(&mut self, step: Step, outcome: Result<(), Failure>) -> Vec<Command> {
        if !self.outstanding.contains(&step) {
            self.learn_the_cause(step, outcome);
            return Vec::new(); // overtaken by a roll back, or a repetition
        }
        let outcome = match self.answered_after_a_word(step, outcome) {
            Ok(commands) => return commands,
            Err(outcome) => outcome,
        };
        match outcome {
            Ok(()) => {
                self.outstanding.remove(&step);
                self.done(step)
            }
            Err(failure) if failure.kind == FailureKind::Gone && matches!(step, Step::Thaw | Step::Resume) => {
                self.outstanding.remove(&step);
                self.phase = Phase::Failed;
                // The cause of a roll back stays readable behind what became of it.
                let before = self.cause.take().map(|c| format!(" It was being rolled back because: {}", c.message));
                let message = format!("{}{}", failure.message, before.unwrap_or_default());
                self.cause = Some(Cause { step: Some(step), message, log: failure.log, symptom: false });
                Vec::new()
            }
            // What it was needs a person: the source's frozen copy is all that is left, so nothing more is ordered.
            Err(failure) if failure.kind == FailureKind::Lost && matches!(step, Step::Resume | Step::Settle) => {
                self.outstanding.clear();
                self.phase = Phase::Failed;
                self.cause = Some(Cause::of(step, failure));
                Vec::new()
            }
            // What is to be removed is not there: that is what was wanted.
            Err(failure)
                if failure.kind == FailureKind::Gone
                    && matches!(step, Step::Discard | Step::Abandon | Step::Settle) =>
            {
                self.outstanding.remove(&step);
                self.done(step)
            }
            Err(_) if step.is_repeated() => vec![Command::OrderAgain(step)],
            Err(failure) => {
                self.outstanding.remove(&step);
                self.roll_back(Cause::of(step, failure))
            }
        }
    }

    /// When the stream breaks both ends fail, and the one that only saw it break may be heard first.
    fn learn_the_cause(&mut self, step: Step, outcome: Result<(), Failure>) {
        let moving = matches!(step, Step::Ship | Step::Restore);
        if let (Some(cause), Err(failure)) = (&self.cause, outcome)
            && (cause.symptom && moving && failure.kind == FailureKind::Other)
        {
            self.cause = Some(Cause::of(step, failure));
        }
    }

    fn done(&mut self, step: Step) -> Vec<Command> {
        match (self.phase, step) {
            (Phase::Inspecting, Step::Inspect) => {
                self.phase = Phase::Reserving;
                self.reserved = true;
                self.order(&[Step::Reserve])
            }
            (Phase::Reserving, Step::Reserve) => {
                self.phase = Phase::Moving;
                self.order(&[Step::Ship, Step::Restore])
            }
            (Phase::Moving, Step::Ship | Step::Restore) if self.outstanding.is_empty() => {
                self.phase = Phase::Committing;
                vec![Command::Commit]
            }
            (Phase::Resuming, Step::Resume) => {
                self.phase = Phase::Discarding;
                self.order(&[Step::Discard, Step::Settle])
            }
            (Phase::Discarding, Step::Discard | Step::Settle) if self.outstanding.is_empty() => {
                self.phase = Phase::Done;
                Vec::new()
            }
            (Phase::RollingBack, Step::Thaw) => {
                self.phase = Phase::RolledBack;
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn roll_back(&mut self, cause: Cause) -> Vec<Command> {
        self.phase = Phase::RollingBack;
        self.cause = Some(cause);
        self.outstanding.clear();
        if self.reserved { self.order(&[Step::Abandon, Step::Thaw]) } else { self.order(&[Step::Thaw]) }
    }

    fn order(&mut self, steps: &[Step]) -> Vec<Command> {
        self.outstanding.extend(steps);
        steps.iter().copied().map(Command::Order).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn failure(kind: FailureKind) -> Failure {
        Failure { kind, message: format!("{kind:?}"), log: Vec::new() }
    }

    fn failed(step: Step, kind: FailureKind) -> Event {
        Event::Answered { step, outcome: Err(failure(kind)) }
    }

    fn play(events: impl IntoIterator<Item = Event>) -> (Migration, Vec<Command>) {
        events.into_iter().fold((Migration::default(), Vec::new()), |(state, _), event| state.step(event))
    }

    fn ok(step: Step) -> Event {
        Event::Answered { step, outcome: Ok(()) }
    }

    fn until_committing() -> Vec<Event> {
        vec![Event::Begin, ok(Step::Inspect), ok(Step::Reserve), ok(Step::Restore), ok(Step::Ship)]
    }

    /// What enumerates steps, phases and kinds of failure elsewhere cannot forget a new one: adding it stops this match
    /// from compiling, and leaving it out of `ALL` stops the test.
    #[test]
    fn the_lists_are_whole() {
        let step_at = |step: Step| match step {
            Step::Inspect => 0,
            Step::Reserve => 1,
            Step::Ship => 2,
            Step::Restore => 3,
            Step::Resume => 4,
            Step::Discard => 5,
            Step::Settle => 6,
            Step::Thaw => 7,
            Step::Abandon => 8,
        };
        assert!(Step::ALL.iter().enumerate().all(|(at, step)| step_at(*step) == at && *step as usize == at));
        let phase_at = |phase: Phase| match phase {
            Phase::Inspecting => 0,
            Phase::Reserving => 1,
            Phase::Moving => 2,
            Phase::Committing => 3,
            Phase::Resuming => 4,
            Phase::Discarding => 5,
            Phase::Done => 6,
            Phase::RollingBack => 7,
            Phase::RolledBack => 8,
            Phase::Failed => 9,
        };
        assert!(Phase::ALL.iter().enumerate().all(|(at, phase)| phase_at(*phase) == at && *phase as usize == at));
        let kind_at = |kind: FailureKind| match kind {
            FailureKind::Gone => 0,
            FailureKind::Stream => 1,
            FailureKind::Lost => 2,
            FailureKind::Cancelled => 3,
            FailureKind::Other => 4,
        };
        assert!(FailureKind::ALL.iter().enumerate().all(|(at, kind)| kind_at(*kind) == at && *kind as usize == at));
    }

    #[test]
    fn a_migration_that_nothing_disturbs_ends_done() {
        let (state, commands) = play(until_committing());
        assert_eq!((state.phase, commands), (Phase::Committing, vec![Command::Commit]));
        let (state, commands) = state.step(Event::Committed);
        assert_eq!(commands, [Command::Order(Step::Resume)]);
        let (state, commands) = state.step(ok(Step::Resume));
        assert_eq!(commands, [Command::Order(Step::Discard), Command::Order(Step::Settle)]);
        let (state, _) = state.step(ok(Step::Discard));
        assert!(!state.is_finished());
        let (state, _) = state.step(ok(Step::Settle));
        assert_eq!(state.phase, Phase::Done);
        assert!(state.is_finished());
    }

    #[test]
    fn a_refused_inspection_never_bothers_the_destination() {
        let (state, commands) = play([Event::Begin, failed(Step::Inspect, FailureKind::Other)]);
        assert_eq!(commands, [Command::Order(Step::Thaw)]);
        let (state, _) = state.step(ok(Step::Thaw));
        assert_eq!(state.phase, Phase::RolledBack);
        assert!(state.is_finished());
    }

    #[test]
    fn an_unreachable_destination_does_not_hold_up_the_source() {
        let stalled = Event::Stalled { message: "no byte for 60 s".into() };
        let (state, _) = play([Event::Begin, ok(Step::Inspect), ok(Step::Reserve), stalled, ok(Step::Thaw)]);
        assert_eq!(state.phase, Phase::RolledBack);
        assert!(!state.is_finished(), "the destination has still to be cleaned");
        assert_eq!(state.resume(), [Command::Order(Step::Abandon)]);
    }

    #[test]
    fn a_late_restore_after_the_roll_back_began_changes_nothing() {
        let (state, _) =
            play([Event::Begin, ok(Step::Inspect), ok(Step::Reserve), Event::Cancelled { by: "anna".into() }]);
        let (after, commands) = state.clone().step(ok(Step::Restore));
        assert_eq!((after, commands), (state, Vec::new()));
    }

    #[test]
    fn after_the_commit_failures_are_repeated() {
        let mut events = until_committing();
        events.push(Event::Committed);
        for event in [Event::Stalled { message: String::new() }, Event::Cancelled { by: String::new() }] {
            let (state, commands) = play(events.iter().cloned().chain([event]));
            assert_eq!((state.phase, commands), (Phase::Resuming, Vec::new()));
        }
        let (_, commands) = play(events.into_iter().chain([failed(Step::Resume, FailureKind::Other)]));
        assert_eq!(commands, [Command::OrderAgain(Step::Resume)]);
    }

    #[test]
    fn a_source_that_is_gone_while_rolling_back_needs_a_person() {
        let lost = failed(Step::Thaw, FailureKind::Gone);
        let (state, _) = play([Event::Begin, ok(Step::Inspect), Event::Stalled { message: "waited".into() }, lost]);
        assert_eq!(state.phase, Phase::Failed);
        assert!(state.cause.is_some_and(|c| c.message.contains("waited")));
    }

    #[test]
    fn the_end_that_only_saw_the_stream_break_does_not_hide_why() {
        let moving = [Event::Begin, ok(Step::Inspect), ok(Step::Reserve)];
        for (symptom, cause) in [(Step::Restore, Step::Ship), (Step::Ship, Step::Restore)] {
            let broke = failed(symptom, FailureKind::Stream);
            let (state, _) = play(moving.iter().cloned().chain([broke, failed(cause, FailureKind::Other)]));
            assert_eq!((state.phase, state.cause.and_then(|c| c.step)), (Phase::RollingBack, Some(cause)));
            // What the roll back itself brings about is no cause.
            let broke = failed(symptom, FailureKind::Stream);
            let (state, _) = play(moving.iter().cloned().chain([broke, failed(cause, FailureKind::Cancelled)]));
            assert_eq!(state.cause.and_then(|c| c.step), Some(symptom));
        }
    }

    /// Every state that any order of events can reach: small enough to look at all of them.
    #[test]
    fn no_reachable_state_breaks_the_two_rules() {
        let mut events = vec![
            Event::Begin,
            Event::Committed,
            Event::CommitRefused { message: String::new() },
            Event::Stalled { message: String::new() },
            Event::Cancelled { by: String::new() },
        ];
        for step in Step::ALL {
            events.push(ok(step));
            events.extend(FailureKind::ALL.map(|kind| failed(step, kind)));
        }
        // (state, was committed, source was told to run, destination was told to run)
        let mut todo = vec![(Migration::default(), false, false, false)];
        let mut seen = HashSet::new();
        while let Some((state, committed, thawed, resumed)) = todo.pop() {
            let key = (format!("{:?}{:?}", state.phase, state.outstanding), committed, thawed, resumed);
            if !seen.insert(key) {
                continue;
            }
            assert!(!(thawed && (resumed || committed)), "both ends were told to run: {state:?}");
            assert!(!resumed || committed, "resumed before the commit: {state:?}");
            assert_eq!(state.phase.is_committed() || state.phase == Phase::Failed && committed, committed, "{state:?}");
            // What was ordered and is not answered is exactly what a restart orders again.
            let again: BTreeSet<Step> = state
                .resume()
                .into_iter()
                .filter_map(|c| if let Command::Order(step) = c { Some(step) } else { None })
                .collect();
            assert_eq!(again, state.outstanding);
            let started = state.phase != Phase::Inspecting || !state.outstanding.is_empty();
            assert!(
                !started || state.is_finished() || state.phase == Phase::Committing || !state.outstanding.is_empty(),
                "nothing is being waited for: {state:?}"
            );
            for event in &events {
                let commits = *event == Event::Committed && state.phase == Phase::Committing;
                let (next, commands) = state.clone().step(event.clone());
                let told =
                    |step| commands.contains(&Command::Order(step)) || commands.contains(&Command::OrderAgain(step));
                let (thaw, resume) = (told(Step::Thaw), told(Step::Resume));
                todo.push((next, committed || commits, thawed || thaw, resumed || resume));
            }
        }
        assert!(seen.len() > 15, "{} states", seen.len());
    }
}
