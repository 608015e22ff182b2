//! All that can happen next in a small cluster.

mod node;
mod promises;

use fog_core::migration::{Command, Phase, Role, Step};

use crate::action::{Action, Actor, What};
use crate::agent::{Agent, Container, MIGRATIONS, ORIGINAL};
use crate::broken::Broken;
use crate::network::{MOST, Message, Network, Said};
use crate::protocol::{Happening, Number, Protocol};

/// What was before, of which orders still come in: late ones, or those of an orchestrator from a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Past {
    /// Nothing that matters.
    Nothing,
    /// A migration of the same workload was rolled back after its freeze; this one goes the same way again.
    RolledBack,
    /// A migration of the same workload was done; this one goes back.
    Done,
    /// An orchestrator that was started from an old backup says whatever it likes, with an epoch that is over.
    Backup,
}

/// How much is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Messages under way at once, at most [`crate::network::MOST`].
    pub messages: usize,
    /// Agents die at any moment.
    pub crashes: bool,
    /// Steps fail where nothing in the model makes them: Docker, CRIU, a disk, the stream.
    pub failures: bool,
    /// How often a migration stalls, or is cancelled.
    pub stalls: u8,
    /// What still comes in from before, one message at a time.
    pub past: Past,
    /// Memory travels after the commit, as with post-copy and hybrid.
    pub pages: bool,
}

/// One migration of the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Move {
    machine: Number,
    source: u8,
    destination: u8,
    epoch: u8,
    /// The commit was tried and its reply was lost; the state before it, as the driver still believes it.
    unsure: Option<Number>,
}

/// Everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    owner: u8,
    epoch: u8,
    moves: [Option<Move>; MIGRATIONS],
    /// How often the orchestrator may still lose its patience, or a user it.
    patience: u8,
    /// The driver is at the commit and listens to nobody.
    committing: [bool; MIGRATIONS],
    network: Network,
    agents: [Agent; 3],
}

/// The epoch at the beginning: there was one before.
const FIRST_EPOCH: u8 = 2;
const STALE: u8 = 1;

/// The cluster and its rules.
pub struct Model {
    bounds: Bounds,
    broken: Option<Broken>,
    protocol: Protocol,
}

type Next = Vec<(Action, State)>;

impl Model {
    /// The protocol as it is, or with a rule taken away.
    pub fn new(bounds: Bounds, broken: Option<Broken>) -> Model {
        Model { bounds, broken, protocol: Protocol::new(broken) }
    }

    /// How many states of fog-core's machine were met.
    pub fn machine_states(&self) -> usize {
        self.protocol.met()
    }

    fn is(&self, broken: Broken) -> bool {
        self.broken == Some(broken)
    }

    /// Node A runs the workload; it came there with an earlier migration.
    pub fn start(&self) -> State {
        let mut agents = [Agent { fence: FIRST_EPOCH, ..Agent::default() }; 3];
        agents[0].put(Container::Running, ORIGINAL);
        agents[2].memory[1].expecting = self.bounds.past == Past::Backup;
        let mut state = State {
            owner: 0,
            epoch: FIRST_EPOCH,
            moves: [None; MIGRATIONS],
            patience: self.bounds.stalls,
            committing: [false; MIGRATIONS],
            network: Network::default(),
            agents,
        };
        self.begin(&mut state, 0, 1);
        match self.bounds.past {
            Past::Nothing | Past::Backup => state,
            Past::Done => self.after(state, |_| false),
            Past::RolledBack => self.after(state, |state| state.agents[0].container == Container::Frozen),
        }
    }

    /// Plays the first migration to its end, without a fault but for the stall, and the second one until its copy is
    /// held. What closed the first one on its nodes was not kept, so that a repetition is not simply answered.
    fn after(&self, mut state: State, stalls: impl Fn(&State) -> bool) -> State {
        let quiet =
            Bounds { messages: MOST, crashes: false, failures: false, stalls: 0, past: Past::Nothing, pages: false };
        let quiet = Model { bounds: quiet, broken: None, protocol: Protocol::new(None) };
        let mut stalled = false;
        let one_step = |state: &State| {
            let next = quiet.next(state);
            let useful = |what: &What| match what {
                What::Heard(_) | What::Worked(..) => 0,
                What::Finished(_, Said::Done, _) | What::Committed { reply: true } => 1,
                What::Finished(..) => 2,
                What::AskedAgain(_) => 3,
                _ => 4,
            };
            let best = next.into_iter().min_by_key(|(action, _)| useful(&action.what));
            best.map(|(action, mut after)| {
                if let What::Heard(message) = action.what {
                    after.network = after.network.without(message);
                }
                after
            })
        };
        state = State { moves: [None; MIGRATIONS], network: Network::default(), ..state };
        quiet.begin(&mut state, 0, 1);
        while !quiet.is_finished(&state) || state.agents.iter().any(|agent| agent.memory[0].running.is_some()) {
            if !stalled && stalls(&state) {
                stalled = true;
                state = quiet.happens(&state, 0, Happening::Stalled);
            }
            let Some(after) = one_step(&state) else { break };
            state = after;
        }
        state.network = Network::default();
        let back = 1 - state.owner;
        quiet.begin(&mut state, 1, back);
        while state.agents.iter().all(|agent| agent.container != Container::Held) {
            let Some(after) = one_step(&state) else { break };
            state = after;
        }
        // This model numbers the machine's states anew.
        for of in state.moves.iter_mut().flatten() {
            of.machine = self.protocol.known(quiet.protocol.look(of.machine, Clone::clone));
        }
        state
    }

    fn begin(&self, state: &mut State, migration: usize, destination: u8) {
        let (machine, commands) = self.protocol.step(self.protocol.start(), Happening::Begin);
        let epoch = state.epoch;
        state.moves[migration] = Some(Move { machine, source: state.owner, destination, epoch, unsure: None });
        self.act(state, migration, &commands);
    }

    /// Orders go to the network, which loses what is too much: an orchestrator that dies before it sends is the same.
    fn act(&self, state: &mut State, migration: usize, commands: &[Command]) {
        for command in commands {
            match command {
                Command::Order(step) | Command::OrderAgain(step) => {
                    let message = Message::Order { migration: migration as u8, step: *step };
                    state.network = state.network.with(message, self.bounds.messages).unwrap_or(state.network);
                }
                Command::Commit => state.committing[migration] = true,
            }
        }
    }

    fn phase(&self, of: Move) -> Phase {
        self.protocol.look(of.machine, |migration| migration.phase)
    }

    fn newest(state: &State) -> Option<Move> {
        state.moves.iter().rev().find_map(|at| *at)
    }

    /// Whether a lost page source left the frozen copy to a person.
    pub fn is_lost(&self, state: &State) -> bool {
        let failed = Self::newest(state).is_some_and(|of| self.phase(of) == Phase::Failed);
        self.bounds.pages && failed && state.agents.iter().any(|agent| agent.container == Container::Frozen)
    }

    /// Whether nothing is left to do anywhere.
    pub fn is_finished(&self, state: &State) -> bool {
        let mut moves = state.moves.iter().flatten();
        moves.all(|of| self.protocol.look(of.machine, fog_core::migration::Migration::is_finished))
    }

    /// Whether the owner's container runs.
    pub fn runs_at_owner(&self, state: &State) -> bool {
        state.agents[usize::from(state.owner)].container == Container::Running
    }

    /// Who owns the workload.
    pub fn owner(&self, state: &State) -> u8 {
        state.owner
    }

    /// Whether memory travels after the commit.
    pub fn has_pages(&self) -> bool {
        self.bounds.pages
    }

    /// Everything that can happen next.
    pub fn next(&self, state: &State) -> Next {
        let mut next = Vec::new();
        self.orchestrator(state, &mut next);
        for message in state.network.iter() {
            let lost = State { network: state.network.without(message), ..*state };
            next.push((Action { actor: Actor::Network, what: What::Lost(message) }, lost));
            match message {
                Message::Order { migration, step } => self.order_arrives(state, migration, step, &mut next),
                Message::Answer { migration, step, said } => {
                    self.answer_arrives(state, migration, step, said, &mut next);
                }
            }
        }
        for node in 0..state.agents.len() {
            for migration in 0..MIGRATIONS {
                self.work(state, node, migration, &mut next);
            }
            let mut after = *state;
            after.agents[node].die(!self.is(Broken::RunsOnZeros));
            if self.bounds.crashes && after != *state {
                next.push((Action { actor: node::actor(node), what: What::Died }, after));
            }
            if self.is(Broken::ThawsOnATimer) && state.agents[node].container == Container::Frozen {
                let mut after = *state;
                after.agents[node].container = Container::Running;
                next.push((Action { actor: node::actor(node), what: What::ThawedByItself }, after));
            }
        }
        self.pages(state, &mut next);
        next.retain(|(_, after)| after != state);
        next
    }

    fn orchestrator(&self, state: &State, next: &mut Next) {
        let mut push = |what, after| next.push((Action { actor: Actor::Orchestrator, what }, after));
        for (migration, of) in state.moves.iter().enumerate() {
            let Some(of) = *of else { continue };
            if state.committing[migration] {
                self.commit(state, migration, of, &mut push);
                let mut after = *state;
                after.moves[migration] = Some(Move { unsure: None, ..of });
                let todo = self.restart(&mut after, migration);
                self.act(&mut after, migration, &todo);
                push(What::Restarted, after);
                continue;
            }
            let mut after = self.happens(state, migration, Happening::Stalled);
            if after != *state && state.patience > 0 {
                after.patience -= 1;
                push(What::Happened(Happening::Stalled), after);
            }
            if self.is(Broken::ForgetsWhatIsOutstanding) {
                continue;
            }
            // After a restart, a reconnection, or a failure: what is not known to be done is ordered.
            for step in self.protocol.look(of.machine, |migration| migration.outstanding.clone()) {
                let mut after = *state;
                self.act(&mut after, migration, &[Command::Order(step)]);
                if after != *state {
                    push(What::AskedAgain(step), after);
                }
            }
        }
        if let Some(past) = self.past() {
            let of_it = |message| matches!(message, Message::Order { migration, .. } if migration == past);
            // The destination of an orchestrator from a backup waits for the stream already: what it can do to the
            // source is what counts.
            // An order that was answered for good is answered again, and an inspection touches nothing.
            let theirs = |step: &Step| match self.bounds.past {
                Past::Backup => step.role() == Role::Source,
                // What undoes was never ordered where it was done, and the other way round.
                Past::RolledBack if step.is_after_commit() => false,
                Past::Done if node::overtakes(*step) => false,
                _ => *step != Step::Inspect && self.would_act(state, past, *step),
            };
            for step in Step::ALL.into_iter().filter(theirs).filter(|_| !state.network.iter().any(of_it)) {
                let message = Message::Order { migration: past, step };
                if let Some(network) = state.network.with(message, self.bounds.messages) {
                    push(What::Late(message), State { network, ..*state });
                }
            }
        }
    }

    fn would_act(&self, state: &State, migration: u8, step: Step) -> bool {
        let node = Self::who(state, migration.into(), step.role());
        node.is_some_and(|node| state.agents[node].records[usize::from(migration)].answer(step).is_none())
    }

    /// The migration whose orders come from the past.
    fn past(&self) -> Option<u8> {
        match self.bounds.past {
            Past::Nothing => None,
            Past::RolledBack | Past::Done => Some(0),
            Past::Backup => Some(1),
        }
    }

    /// It dies in the middle of the commit: what is stored says how to go on.
    fn restart(&self, state: &mut State, migration: usize) -> Vec<Command> {
        state.committing[migration] = false;
        match state.moves[migration] {
            Some(of) if !self.is(Broken::ForgetsWhatIsOutstanding) => {
                self.protocol.look(of.machine, fog_core::migration::Migration::resume)
            }
            _ => Vec::new(),
        }
    }

    /// One transaction moves the ownership and stores the state behind it; its reply may be lost.
    fn commit(&self, state: &State, migration: usize, of: Move, push: &mut impl FnMut(What, State)) {
        let before = of.unsure.unwrap_or(of.machine);
        let owned = state.owner == of.source && state.epoch == of.epoch;
        let (committed, commands) = self.protocol.step(before, Happening::Committed);
        let refused = |mut after: State| {
            let (machine, commands) = self.protocol.step(before, Happening::CommitRefused);
            after.moves[migration] = Some(Move { machine, unsure: None, ..of });
            after.committing[migration] = false;
            self.act(&mut after, migration, &commands);
            after
        };
        if of.unsure.is_some() {
            // The row says what became of it.
            if self.is(Broken::TakesALostReplyForNo) {
                return push(What::Happened(Happening::CommitRefused), refused(*state));
            }
            let mut after = *state;
            after.moves[migration] = Some(Move { unsure: None, ..of });
            let todo = self.restart(&mut after, migration);
            self.act(&mut after, migration, &todo);
            return push(What::Committed { reply: true }, after);
        }
        // The database does not take it, and says so.
        push(What::Happened(Happening::CommitRefused), refused(*state));
        if owned {
            let mut after = *state;
            after.owner = of.destination;
            after.epoch = of.epoch + 1;
            after.moves[migration] = Some(Move { machine: committed, unsure: Some(before), ..of });
            push(What::Committed { reply: false }, after);
            after.moves[migration] = Some(Move { machine: committed, unsure: None, ..of });
            after.committing[migration] = false;
            self.act(&mut after, migration, &commands);
            push(What::Committed { reply: true }, after);
        }
    }

    /// The orchestrator takes an event: it stores what that leads to, then acts.
    fn happens(&self, state: &State, migration: usize, happening: Happening) -> State {
        let Some(of) = state.moves[migration] else { return *state };
        let (machine, commands) = self.protocol.step(of.machine, happening);
        let mut after = *state;
        after.moves[migration] = Some(Move { machine, ..of });
        self.act(&mut after, migration, &commands);
        after
    }

    fn answer_arrives(&self, state: &State, migration: u8, step: Step, said: Said, next: &mut Next) {
        let index = usize::from(migration);
        let message = Message::Answer { migration, step, said };
        if state.committing[index] {
            return; // the driver commits first
        }
        let action = Action { actor: Actor::Orchestrator, what: What::Heard(message) };
        let after = self.happens(state, index, Happening::Answered(step, said));
        if self.is(Broken::ActsBeforeStoring) {
            // What was ordered is on its way, and what it follows from was not stored.
            let lost = State { moves: state.moves, committing: state.committing, ..after };
            next.push((action, lost));
        }
        next.push((action, after));
    }

    /// A state in one line.
    pub fn describe(&self, state: &State) -> String {
        let containers: Vec<String> = state.agents.iter().map(|agent| format!("{:?}", agent.container)).collect();
        let phases: Vec<String> = state.moves.iter().flatten().map(|of| format!("{:?}", self.phase(*of))).collect();
        format!(
            "{}; owner {}, epoch {}; A {}, B {}, C {}",
            phases.join(", then "),
            ["A", "B", "C"][usize::from(state.owner)],
            state.epoch,
            containers[0],
            containers[1],
            containers[2]
        )
    }
}
