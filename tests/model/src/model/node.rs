//! A node: its agent keeps the contract of `node-agent/src/engine` (keyed answers, the fence, one container), and dies.

use fog_core::migration::{FailureKind, Role, Step};

use super::{Model, Next, STALE, State};
use crate::action::{Action, Actor, What};
use crate::agent::{Agent, Container, MIGRATIONS, Running};
use crate::broken::Broken;
use crate::network::{Message, Network, Said};

impl Model {
    pub(super) fn who(state: &State, migration: usize, role: Role) -> Option<usize> {
        match (state.moves[migration], role) {
            (Some(of), Role::Source) => Some(of.source.into()),
            (Some(of), Role::Destination) => Some(of.destination.into()),
            // The stale orchestrator's.
            (None, Role::Source) => Some(0),
            (None, Role::Destination) => Some(2),
        }
    }

    fn epoch(state: &State, migration: usize, step: Step) -> u8 {
        let before = state.moves[migration].map_or(STALE, |of| of.epoch);
        before + u8::from(step.is_after_commit())
    }

    pub(super) fn order_arrives(&self, state: &State, migration: u8, step: Step, next: &mut Next) {
        let index = usize::from(migration);
        let Some(node) = Self::who(state, index, step.role()) else { return };
        let message = Message::Order { migration, step };
        let action = Action { actor: actor(node), what: What::Heard(message) };
        let mut after = *state;
        let agent = &mut after.agents[node];
        let answers = |mut after: State, said| {
            after.network = self.answered(&after, migration, step, said);
            (action, after)
        };
        if let Some(running) = agent.memory[index].running {
            if running.step == step {
                next.push((action, after)); // it joins
            } else if overtakes(step) && !agent.memory[index].given_up {
                agent.memory[index].given_up = true;
                // It waits for its turn.
                after.network = after.network.with(message, self.bounds.messages).unwrap_or(after.network);
                next.push((action, after));
            }
            return;
        }
        if let Some(said) = agent.records[index].answer(step) {
            return next.push(answers(after, said));
        }
        let epoch = Self::epoch(state, index, step);
        if agent.fence > epoch && !self.is(Broken::IgnoresEpochs) {
            return next.push(answers(after, Said::Failed(FailureKind::Other)));
        }
        agent.fence = agent.fence.max(epoch);
        if overtakes(step) {
            agent.memory[index].given_up = true;
        }
        let record = &mut agent.records[index];
        if is_forward(step) {
            let begun = record.has_begun(step);
            if record.closed || agent.memory[index].given_up || begun {
                let said = Said::Failed(FailureKind::Other);
                if record.exists && step != Step::Inspect {
                    record.keep(step, said);
                }
                return next.push(answers(after, said));
            }
        }
        agent.memory[index].running = Some(Running { step, at: 0 });
        next.push((action, after));
    }

    /// The network with one more answer, unless that is too much; those to the stale orchestrator do not matter.
    fn answered(&self, state: &State, migration: u8, step: Step, said: Said) -> Network {
        let heard = self.past() != Some(migration);
        let answer = heard.then_some(Message::Answer { migration, step, said });
        answer.and_then(|answer| state.network.with(answer, self.bounds.messages)).unwrap_or(state.network)
    }

    /// The step under way goes on, in each way in which it can.
    pub(super) fn work(&self, state: &State, node: usize, migration: usize, next: &mut Next) {
        let Some(running) = state.agents[node].memory[migration].running else { return };
        let identity = migration as u8;
        let step = running.step;
        let agent = state.agents[node];
        let record = agent.records[migration];
        let given_up = agent.memory[migration].given_up;
        let mut ends: Vec<Said> = Vec::new();
        let mut on = |what: &'static str, change: &dyn Fn(&mut Agent)| {
            let mut after = *state;
            let agent = &mut after.agents[node];
            if let Some(running) = &mut agent.memory[migration].running {
                running.at += 1;
            }
            change(agent);
            next.push((Action { actor: actor(node), what: What::Worked(step, what) }, after));
        };
        let other = Said::Failed(FailureKind::Other);
        let gone = Said::Failed(FailureKind::Gone);
        let lost = Said::Failed(FailureKind::Lost);
        let (pages, memory) = (self.bounds.pages, agent.memory[migration]);
        // Broken streams and overtaken steps differ from other failures only in the words that people read.
        let cancelled = other;
        let injected = self.bounds.failures.then_some(other);
        match (step, running.at) {
            (Step::Inspect, _) => match agent.container {
                Container::Running => {
                    ends.push(Said::Done);
                    ends.extend(injected);
                }
                Container::None => ends.push(gone),
                _ => ends.push(other),
            },
            (Step::Reserve, 0) => on("notes that it begins", &|agent| agent.records[migration].begin(step)),
            (Step::Reserve, 1) => {
                if agent.container != Container::None {
                    ends.push(other); // the name is taken
                } else {
                    ends.extend(injected);
                    on("creates the container", &|agent| {
                        agent.put(Container::Created, identity);
                        agent.records[migration].container = Some(identity);
                        agent.memory[migration].expecting = true;
                    });
                }
            }
            (Step::Ship, 0) if agent.container == Container::Running => {
                on("notes that it begins", &|agent| {
                    let container = agent.identity;
                    let record = &mut agent.records[migration];
                    record.begin(step);
                    record.container = Some(container);
                    record.froze = true;
                    record.pending = pages;
                });
            }
            (Step::Ship, 1) if given_up => ends.push(cancelled),
            (Step::Ship, 1) if agent.container == Container::Running => {
                ends.extend(injected);
                on("freezes", &|agent| agent.container = Container::Frozen);
            }
            (Step::Ship, 2) if !given_up => {
                let to = Self::who(state, migration, Role::Destination).filter(|to| {
                    let there = state.agents[*to].memory[migration];
                    there.expecting && !there.arrived
                });
                if to.is_none() {
                    ends.push(other); // nobody admits the stream
                }
                ends.extend(injected);
                if let Some(to) = to {
                    let mut after = *state;
                    after.agents[node].memory[migration].running = Some(Running { step, at: 3 });
                    after.agents[to].memory[migration].arrived = true;
                    after.agents[node].memory[migration].going = pages;
                    next.push((Action { actor: actor(node), what: What::Worked(step, "ships everything") }, after));
                }
            }
            (Step::Ship, 0 | 1) => ends.push(other),
            (Step::Ship, 2) => ends.push(cancelled),
            (Step::Restore, 0) if record.exists => {
                on("notes that it begins", &|agent| {
                    agent.records[migration].begin(step);
                    agent.records[migration].pending = pages;
                });
            }
            (Step::Restore, 0) => ends.push(other),
            (Step::Restore, 1) if given_up => ends.push(cancelled),
            (Step::Restore, 1) => {
                let (there, ready) = (agent.memory[migration], agent.has(record.container));
                if !there.expecting || !ready {
                    ends.push(other); // the stream cannot come any more, or there is nothing to restore into
                } else if !there.arrived || self.bounds.failures {
                    ends.push(other); // the stream breaks, or CRIU fails
                }
                if there.arrived && ready {
                    let held = if self.is(Broken::RestoresRunning) { Container::Running } else { Container::Held };
                    on("restores, held", &|agent| {
                        agent.container = held;
                        (agent.whole, agent.memory[migration].coming) = (!pages, pages);
                    });
                }
            }
            (Step::Resume, 0) if record.resumed => ends.push(Said::Done),
            (Step::Resume, 0) if record.pending && !memory.coming => {
                self.declare_lost(state, node, step, lost, &mut ends, next)
            }
            (Step::Resume, 0)
                if agent.has(record.container) && matches!(agent.container, Container::Held | Container::Running) =>
            {
                on("continues the tasks", &|agent| agent.container = Container::Running);
            }
            (Step::Resume, 0) => ends.push(gone),
            (Step::Resume, 1) => {
                on("notes that it resumed", &|agent| agent.records[migration].resumed = true);
            }
            (Step::Discard, 0) if !record.exists => ends.push(Said::Done),
            (Step::Discard, 0) if record.pending && !memory.heard && !self.is(Broken::DiscardsUndrained) => {
                if !memory.going && agent.has(record.container) {
                    let mut after = *state;
                    after.agents[node].memory[migration].going = true;
                    next.push((Action { actor: actor(node), what: What::Worked(step, "sends memory again") }, after));
                }
            }
            (Step::Discard, 0) => on("removes the container", &|agent| {
                agent.records[migration].pending = false;
                agent.memory[migration].going = false;
                if agent.has(record.container) {
                    agent.container = Container::None;
                }
            }),
            (Step::Abandon, 0) if record.resumed => ends.push(other),
            (Step::Abandon, 0) => on("removes the container", &|agent| {
                agent.memory[migration].expecting = false;
                agent.memory[migration].arrived = false;
                agent.memory[migration].coming = false;
                agent.records[migration].came = false;
                if record.has_begun(Step::Reserve) && agent.has(record.container) {
                    agent.container = Container::None;
                }
            }),
            (Step::Settle, 0) if record.pending && !memory.coming => {
                self.declare_lost(state, node, step, lost, &mut ends, next)
            }
            (Step::Settle, 0) if record.pending && !agent.whole => {
                // The source stays away for too long: nothing runs on with zeros in a page's place.
                let mut after = *state;
                after.agents[node].memory[migration].coming = false;
                if !self.is(Broken::RunsOnZeros) {
                    after.agents[node].container = Container::None;
                }
                let what = What::Worked(step, "gives its memory up");
                next.push((Action { actor: actor(node), what }, after));
            }
            (Step::Settle, 0) if record.pending => {} // it is being written down that all is there
            (Step::Settle, 0) => on("cleans up", &|agent| {
                agent.records[migration].pending = false;
                agent.memory[migration].expecting = false;
                agent.memory[migration].coming = false;
            }),
            (Step::Thaw, 0) => on("unpauses what it paused", &|agent| {
                agent.records[migration].pending = false;
                agent.memory[migration].going = false;
                let untouched = record.closed && !self.is(Broken::ThawsWhatIsClosed);
                if record.has_begun(Step::Ship)
                    && record.froze
                    && !untouched
                    && agent.has(record.container)
                    && agent.container == Container::Frozen
                {
                    agent.container = Container::Running;
                }
            }),
            (Step::Thaw, _) => ends.push(match agent.container {
                Container::Running => Said::Done,
                Container::None => gone,
                _ => other,
            }),
            (
                Step::Reserve
                | Step::Ship
                | Step::Restore
                | Step::Resume
                | Step::Discard
                | Step::Settle
                | Step::Abandon,
                _,
            ) => ends.push(Said::Done),
        }
        for said in ends {
            self.finish(state, node, migration, step, said, next);
        }
    }

    /// The agent was restarted while memory came in. All of it may have come just before: then the container lives.
    fn declare_lost(&self, state: &State, node: usize, step: Step, lost: Said, ends: &mut Vec<Said>, next: &mut Next) {
        let lives = state.agents[node].container != Container::None;
        if lives && !self.is(Broken::LeavesTheLost) {
            let mut after = *state;
            after.agents[node].container = Container::None;
            next.push((Action { actor: actor(node), what: What::Worked(step, "ends the container") }, after));
        } else {
            ends.push(lost);
        }
    }

    /// Memory travels while both agents are there, and the word that all of it has.
    pub(super) fn pages(&self, state: &State, next: &mut Next) {
        for migration in 0..MIGRATIONS {
            let ends = [Role::Source, Role::Destination].map(|role| Self::who(state, migration, role));
            let (true, [Some(source), Some(destination)]) = (self.bounds.pages, ends) else { continue };
            let (from, to) = (state.agents[source], state.agents[destination]);
            let mut push = |step, what, after| {
                next.push((Action { actor: Actor::Network, what: What::Worked(step, what) }, after));
            };
            let flows = from.memory[migration].going && to.memory[migration].coming;
            if flows && from.container == Container::Frozen && !to.whole {
                let mut after = *state;
                after.agents[destination].whole = true;
                push(Step::Settle, "has all of the memory", after);
            }
            let record = to.records[migration];
            if to.memory[migration].coming && to.whole && record.pending {
                let mut after = *state;
                let record = &mut after.agents[destination].records[migration];
                (record.pending, record.came) = (false, true);
                push(Step::Settle, "writes down that no memory is missing", after);
            }
            // Over the stream, or because it asks.
            let known = match self.broken {
                Some(Broken::TellsBeforeNoting) => flows && to.whole,
                Some(Broken::ForgetsThatAllCame) => flows && record.came,
                _ => record.came,
            };
            if from.memory[migration].going && known {
                let mut after = *state;
                after.agents[source].memory[migration].heard = true;
                push(Step::Discard, "hears that no memory is missing", after);
            }
            let given_up = to.container == Container::None && to.records[migration].pending;
            if self.is(Broken::ThawsWhatIsLost) && from.container == Container::Frozen && given_up {
                let mut after = *state;
                after.agents[source].container = Container::Running;
                push(Step::Discard, "goes on by itself", after);
            }
        }
    }

    /// Stores the answer, if it is one to store, and gives it.
    fn finish(&self, state: &State, node: usize, migration: usize, step: Step, said: Said, next: &mut Next) {
        let network = self.answered(state, migration as u8, step, said);
        let mut after = State { network, ..*state };
        let agent = &mut after.agents[node];
        agent.memory[migration].running = None;
        let record = &mut agent.records[migration];
        let closes = matches!(step, Step::Discard | Step::Abandon | Step::Settle | Step::Thaw)
            && !matches!(said, Said::Failed(FailureKind::Other | FailureKind::Lost))
            && (record.exists || overtakes(step));
        if closes {
            record.exists = true;
            record.closed = true;
        }
        if record.closed {
            agent.memory[migration].given_up = false; // the lane is left
        }
        let kept = record.exists && step != Step::Inspect && (is_forward(step) || said == Said::Done);
        let action = |kept| Action { actor: actor(node), what: What::Finished(step, said, kept) };
        // Closed first and kept then: it may die in between, or find the disk full.
        if closes || !kept {
            next.push((action(false), after));
        }
        if kept {
            after.agents[node].records[migration].keep(step, said);
            next.push((action(true), after));
        }
    }
}

pub(super) fn actor(node: usize) -> Actor {
    Actor::Node(node as u8)
}

/// Carried out once at most.
const fn is_forward(step: Step) -> bool {
    matches!(step, Step::Inspect | Step::Reserve | Step::Ship | Step::Restore)
}

/// Ends what runs.
pub(super) const fn overtakes(step: Step) -> bool {
    matches!(step, Step::Thaw | Step::Abandon)
}
