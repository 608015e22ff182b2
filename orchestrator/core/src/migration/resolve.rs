//! A person's word: which end keeps a workload whose migration cannot end by itself.
//!
//! | phase | keep the source | keep the destination |
//! |---|---|---|
//! | Inspecting, Reserving, Moving | refused: cancel it | refused: nothing has been committed |
//! | Committing | refused: a moment | refused: a moment |
//! | Resuming | the destination's copy is removed, the source owns it again and thaws | is under way |
//! | Discarding | refused, unless the destination is out of the world for good: it runs there | is under way |
//! | Done | refused: it runs at the destination | is so |
//! | RollingBack | is under way | refused: the destination has been told to remove its copy |
//! | RolledBack | is so | refused: nothing is left there |
//! | Failed, not committed | is so | refused: nothing is left there |
//! | Failed, committed | as in Resuming | the destination owns it still, starts it if it does not run, then the source's copy goes |
//!
//! Three rules. The end that gives up is asked first where it could run, so that nothing runs twice: only a person's word that
//! the destination is gone for good replaces its answer, and then it is still told whenever it comes back. The last copy goes
//! last. And the word has an epoch of its own, the second after the one that the migration began with: once an agent has
//! seen it, a late `resume` or `discard` of before is refused.

use serde::{Deserialize, Serialize};

use super::{Cause, Command, Failure, FailureKind, Migration, Phase, Role, Step};

/// What a person says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolve {
    /// Which end is to keep the workload.
    pub keep: Role,
    /// The person knows that the destination is out of the world for good: nothing runs there, and nobody waits for it.
    pub destination_is_gone: bool,
    /// Who.
    pub by: String,
}

/// A word that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Resolution {
    /// Which end keeps the workload.
    pub keep: Role,
    /// Nobody waits for the destination.
    pub destination_is_gone: bool,
    /// Who said so.
    pub by: String,
    /// The ownership was written accordingly.
    pub owned: bool,
}

/// Why a word is not taken. Each is a sentence for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResolveRefusal {
    /// Nothing is stuck yet that only a person could solve.
    #[error("it has not been committed: cancel it, and the source goes on")]
    NotCommitted,
    /// The ownership is being written.
    #[error("its ownership is being written at this moment: ask again")]
    Committing,
    /// The destination's copy runs.
    #[error("it runs at the destination: move it back with a migration, or, if that node is gone for good, say so")]
    Runs,
    /// The destination's copy is or will be removed.
    #[error("the destination has been told to remove its copy: only the source's is left")]
    Removed,
    /// Another word was taken before.
    #[error("somebody has decided for the other end already")]
    Decided,
}

impl Migration {
    /// Whether the destination owns the workload, also after it failed there.
    pub fn is_destinations(&self) -> bool {
        match (&self.resolution, self.phase) {
            (Some(word), _) if word.owned => word.keep == Role::Destination,
            (Some(_), _) => true,
            (None, Phase::Failed) => {
                let failed_at = self.cause.as_ref().and_then(|cause| cause.step);
                matches!(failed_at, Some(Step::Resume | Step::Settle | Step::Discard))
            }
            (None, phase) => phase.is_committed(),
        }
    }

    /// Whether the transaction that writes the owner has taken place: that of the commit, or of a person's word.
    pub fn is_owned(&self) -> bool {
        self.resolution.as_ref().map_or(self.phase.is_committed(), |word| word.owned)
    }

    /// How many epochs after the one it began with a step's order belongs to.
    pub fn epochs_on(&self, step: Step) -> u64 {
        match &self.resolution {
            Some(_) => 2,
            None => u64::from(step.is_after_commit()),
        }
    }

    /// What a person's word would do: `Ok(true)`: it would be carried out, `Ok(false)`: it is so or under way already.
    pub fn resolvable(&self, keep: Role, destination_is_gone: bool) -> Result<bool, ResolveRefusal> {
        if let Some(word) = &self.resolution {
            let waits = self.phase == Phase::RollingBack && !word.owned;
            return match (keep == word.keep, self.phase) {
                // What failed again may be decided anew.
                (_, Phase::Failed) if self.is_destinations() => Ok(true),
                (true, _) => Ok(waits && destination_is_gone && !word.destination_is_gone),
                (false, _) => Err(ResolveRefusal::Decided),
            };
        }
        match (self.phase, keep) {
            (Phase::Inspecting | Phase::Reserving | Phase::Moving, _) => Err(ResolveRefusal::NotCommitted),
            (Phase::Committing, _) => Err(ResolveRefusal::Committing),
            (Phase::Resuming, Role::Source) => Ok(true),
            (Phase::Discarding, Role::Source) if destination_is_gone => Ok(true),
            (Phase::Discarding | Phase::Done, Role::Source) => Err(ResolveRefusal::Runs),
            (Phase::Resuming | Phase::Discarding | Phase::Done, Role::Destination) => Ok(false),
            (Phase::Failed, _) if self.is_destinations() => Ok(true),
            (Phase::RollingBack | Phase::RolledBack | Phase::Failed, Role::Source) => Ok(false),
            (Phase::RollingBack | Phase::RolledBack | Phase::Failed, Role::Destination) => Err(ResolveRefusal::Removed),
        }
    }

    pub(super) fn resolved(&mut self, word: Resolve) -> Vec<Command> {
        if self.resolvable(word.keep, word.destination_is_gone) != Ok(true) {
            return Vec::new();
        }
        let Resolve { keep, destination_is_gone, by } = word;
        self.resolution = Some(Resolution { keep, destination_is_gone, by, owned: false });
        self.outstanding.clear();
        match keep {
            Role::Source if destination_is_gone => self.write_ownership(),
            Role::Source => {
                self.phase = Phase::RollingBack;
                self.order(&[Step::Abandon])
            }
            Role::Destination => self.write_ownership(),
        }
    }

    fn write_ownership(&mut self) -> Vec<Command> {
        self.phase = Phase::Committing;
        vec![Command::Commit]
    }

    /// The ownership is as the person wanted it.
    pub(super) fn owned(&mut self) -> Vec<Command> {
        let Some(word) = &mut self.resolution else { return Vec::new() };
        word.owned = true;
        match (word.keep, word.destination_is_gone) {
            (Role::Destination, _) => {
                self.phase = Phase::Discarding;
                self.order(&[Step::Settle])
            }
            (Role::Source, gone) => {
                self.phase = Phase::RollingBack;
                // Should it ever come back, its copy goes before anything else.
                if gone { self.order(&[Step::Abandon, Step::Thaw]) } else { self.order(&[Step::Thaw]) }
            }
        }
    }

    /// The workload's owner is somebody else by now.
    pub(super) fn not_owned(&mut self, message: String) -> Vec<Command> {
        self.phase = Phase::Failed;
        self.cause = Some(Cause::outside(None, message));
        Vec::new()
    }

    /// What an answer means only after a person's word; `Err`: what it always means.
    pub(super) fn answered_after_a_word(
        &mut self,
        step: Step,
        outcome: Result<(), Failure>,
    ) -> Result<Vec<Command>, Result<(), Failure>> {
        let Some(word) = &self.resolution else { return Err(outcome) };
        let done = match &outcome {
            Ok(()) => true,
            Err(failure) => failure.kind == FailureKind::Gone,
        };
        match (word.keep, step, outcome) {
            (Role::Source, Step::Abandon, _) if done && !word.owned => {
                self.outstanding.remove(&step);
                Ok(self.write_ownership())
            }
            (Role::Destination, Step::Settle, Ok(())) => {
                self.outstanding.remove(&step);
                Ok(self.order(&[Step::Discard]))
            }
            // The source's copy is whole: it may still be chosen.
            (Role::Destination, Step::Settle, Err(failure)) if done => {
                self.outstanding.remove(&step);
                self.phase = Phase::Failed;
                let before = self.cause.take().map(|cause| format!(" Before that: {}", cause.message));
                let cause = Cause::of(step, failure);
                self.cause =
                    Some(Cause { message: format!("{}{}", cause.message, before.unwrap_or_default()), ..cause });
                Ok(Vec::new())
            }
            (_, _, outcome) => Err(outcome),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};

    use super::super::Event;
    use super::*;

    fn ok(step: Step) -> Event {
        Event::Answered { step, outcome: Ok(()) }
    }

    fn failed(step: Step, kind: FailureKind) -> Event {
        Event::Answered { step, outcome: Err(Failure { kind, message: format!("{kind:?}"), log: Vec::new() }) }
    }

    fn word(keep: Role, destination_is_gone: bool) -> Event {
        Event::Resolved(Resolve { keep, destination_is_gone, by: "anna".into() })
    }

    fn play(events: &[Event]) -> (Migration, Vec<Command>) {
        events.iter().cloned().fold((Migration::default(), Vec::new()), |(state, _), event| state.step(event))
    }

    /// Committed, and the destination's copy lost its memory.
    fn lost() -> Vec<Event> {
        let mut events = vec![Event::Begin, ok(Step::Inspect), ok(Step::Reserve), ok(Step::Restore), ok(Step::Ship)];
        events.extend([Event::Committed, ok(Step::Resume), failed(Step::Settle, FailureKind::Lost)]);
        events
    }

    #[test]
    fn the_source_goes_on_after_the_destination_has_given_up() {
        let mut events = lost();
        assert!(play(&events).0.is_finished(), "nothing is ordered without a word");
        events.push(word(Role::Source, false));
        assert_eq!(play(&events).1, [Command::Order(Step::Abandon)]);
        events.push(failed(Step::Abandon, FailureKind::Other));
        assert_eq!(play(&events).1, [Command::OrderAgain(Step::Abandon)]);
        events.push(ok(Step::Abandon));
        let (state, commands) = play(&events);
        assert_eq!((state.phase, commands), (Phase::Committing, vec![Command::Commit]));
        assert_eq!(state.resume(), [Command::Commit]);
        events.push(Event::Committed);
        let (state, commands) = play(&events);
        assert_eq!((commands, state.epochs_on(Step::Thaw)), (vec![Command::Order(Step::Thaw)], 2));
        events.push(ok(Step::Thaw));
        let (state, _) = play(&events);
        assert_eq!((state.phase, state.is_finished()), (Phase::RolledBack, true));
        assert!(state.cause.is_some_and(|cause| cause.message == "Lost"), "why it came to that stays readable");
    }

    #[test]
    fn a_destination_that_is_gone_is_not_waited_for_and_still_told() {
        let mut events = lost();
        events.extend([word(Role::Source, false), word(Role::Source, true)]);
        assert_eq!(play(&events).1, [Command::Commit], "said later, it counts too");
        events.extend([Event::Committed, ok(Step::Thaw)]);
        let (state, _) = play(&events);
        assert_eq!((state.phase, state.is_finished()), (Phase::RolledBack, false));
        assert_eq!(state.resume(), [Command::Order(Step::Abandon)]);
    }

    #[test]
    fn the_destination_keeps_it_and_the_last_copy_goes_last() {
        let mut events = lost();
        events.push(word(Role::Destination, false));
        assert_eq!(play(&events).1, [Command::Commit]);
        events.push(Event::Committed);
        assert_eq!(play(&events).1, [Command::Order(Step::Settle)]);
        let (state, _) = play(&[events.clone(), vec![failed(Step::Settle, FailureKind::Gone)]].concat());
        assert_eq!((state.phase, state.outstanding.len()), (Phase::Failed, 0), "the source's copy is not touched");
        assert_eq!(state.resolvable(Role::Source, false), Ok(true), "and may still be chosen");
        events.push(ok(Step::Settle));
        assert_eq!(play(&events).1, [Command::Order(Step::Discard)]);
        events.push(ok(Step::Discard));
        assert_eq!(play(&events).0.phase, Phase::Done);
    }

    #[test]
    fn a_word_that_makes_no_sense_changes_nothing() {
        let until = |count: usize| play(&lost()[..count]).0;
        let cases = [
            (until(4), Role::Source, false, Err(ResolveRefusal::NotCommitted)),
            (until(5), Role::Source, false, Err(ResolveRefusal::Committing)),
            (until(7), Role::Source, false, Err(ResolveRefusal::Runs)),
            (until(7), Role::Source, true, Ok(true)),
            (until(7), Role::Destination, false, Ok(false)),
            (until(6), Role::Source, false, Ok(true)),
            (until(4).step(Event::Cancelled { by: String::new() }).0, Role::Source, false, Ok(false)),
            (
                until(4).step(Event::Cancelled { by: String::new() }).0,
                Role::Destination,
                true,
                Err(ResolveRefusal::Removed),
            ),
        ];
        for (state, keep, gone, expected) in cases {
            assert_eq!(state.resolvable(keep, gone), expected, "{:?} {keep:?} {gone}", state.phase);
            let (after, commands) = state.clone().step(word(keep, gone));
            assert_eq!((after == state, commands.is_empty()), (expected != Ok(true), expected != Ok(true)));
        }
        let decided = play(&[lost(), vec![word(Role::Source, false)]].concat()).0;
        assert_eq!(decided.resolvable(Role::Destination, false), Err(ResolveRefusal::Decided));
        assert_eq!(decided.resolvable(Role::Source, false), Ok(false), "said twice is said once");
    }

    #[test]
    fn refused_by_the_store_it_is_failed_again() {
        let events = [lost(), vec![word(Role::Destination, false)]].concat();
        let (state, commands) = play(&events).0.step(Event::CommitRefused { message: "C owns it".into() });
        assert_eq!((state.phase, commands), (Phase::Failed, Vec::new()));
        assert!(state.cause.is_some_and(|cause| cause.message == "C owns it"));
    }

    /// Whatever is said and happens in whatever order: the source is told to run only when the destination has given its copy
    /// up or is gone by a person's word, and its own copy is never discarded before the destination's was seen running.
    #[test]
    fn no_order_of_words_and_answers_lets_both_run_or_neither_stay() {
        let mut events = vec![Event::Begin, Event::Committed, Event::CommitRefused { message: String::new() }];
        events.extend([Event::Stalled { message: String::new() }, Event::Cancelled { by: String::new() }]);
        for step in Step::ALL {
            events.push(ok(step));
            events.extend(FailureKind::ALL.map(|kind| failed(step, kind)));
        }
        for keep in [Role::Source, Role::Destination] {
            events.extend([word(keep, false), word(keep, true)]);
        }
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
        struct Seen {
            resumed: bool,
            given_up: bool,
            runs_there: bool,
        }
        let mut todo = vec![(Migration::default(), Seen::default())];
        let mut met = HashSet::new();
        while let Some((state, seen)) = todo.pop() {
            let bare = Migration {
                cause: state.cause.clone().map(|c| Cause { message: String::new(), ..c }),
                ..state.clone()
            };
            if !met.insert((bare, seen)) {
                continue;
            }
            let again: BTreeSet<Step> = state.outstanding.clone();
            for event in &events {
                let (next, commands) = state.clone().step(event.clone());
                let mut seen = seen;
                match event {
                    Event::Answered { step, outcome } if again.contains(step) => match (step, outcome) {
                        (Step::Abandon, Ok(())) => seen.given_up = true,
                        (Step::Abandon, Err(failure)) if failure.kind == FailureKind::Gone => seen.given_up = true,
                        (Step::Resume | Step::Settle, Ok(())) => seen.runs_there = true,
                        _ => {}
                    },
                    Event::Resolved(word) if next != state && word.destination_is_gone => seen.given_up = true,
                    _ => {}
                }
                let told =
                    |step| commands.iter().any(|c| *c == Command::Order(step) || *c == Command::OrderAgain(step));
                // `settle` after a word starts what does not run.
                if told(Step::Resume) || (told(Step::Settle) && next.resolution.is_some()) {
                    (seen.resumed, seen.given_up) = (true, false);
                }
                assert!(!told(Step::Thaw) || !seen.resumed || seen.given_up, "both run: {state:?} {event:?}");
                assert!(!told(Step::Discard) || seen.runs_there, "nothing stays: {state:?} {event:?}");
                todo.push((next, seen));
            }
        }
        assert!(met.len() > 60, "{} states", met.len());
    }
}
