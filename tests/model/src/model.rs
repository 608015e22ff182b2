//! All that can happen next in a small cluster.

use std::fmt;

use fog_core::migration::{Command, FailureKind, Phase, Role, Step};

use crate::agent::{Agent, Container, MIGRATIONS, ORIGINAL, Running};
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
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
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
        let quiet = Bounds { messages: MOST, crashes: false, failures: false, stalls: 0, past: Past::Nothing };
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

    /// The promise that a state breaks.
    pub fn broken_promise(&self, state: &State) -> Option<String> {
        let names = ["A", "B", "C"];
        let runs = |node: &usize| state.agents[*node].container == Container::Running;
        let running: Vec<usize> = (0..state.agents.len()).filter(runs).collect();
        let owner = usize::from(state.owner);
        if running.len() > 1 {
            return Some(format!("it runs twice, on {} and on {}", names[running[0]], names[running[1]]));
        }
        if let Some(other) = running.iter().find(|node| **node != owner) {
            return Some(format!("it runs on {} and {} owns it", names[*other], names[owner]));
        }
        if !matches!(state.agents[owner].container, Container::Running | Container::Frozen | Container::Held) {
            return Some(format!("it is lost: {} owns it and has {:?}", names[owner], state.agents[owner].container));
        }
        let frozen = state.agents.iter().any(|agent| agent.container == Container::Frozen);
        if state.agents[owner].container == Container::Held && !frozen {
            return Some("the only copy has never run".to_owned());
        }
        let newest = Self::newest(state)?;
        let phase = self.phase(newest);
        if matches!(phase, Phase::RolledBack | Phase::Done) && running.is_empty() {
            return Some(format!("{phase:?} was said and it does not run"));
        }
        if phase == Phase::Failed {
            return Some("it was given up although nobody touched the container".to_owned());
        }
        if self.is_finished(state) {
            if running.is_empty() && state.agents.iter().all(|agent| agent.memory.iter().all(|at| at.running.is_none()))
            {
                return Some("nothing is left to do and it does not run".to_owned());
            }
            for (node, agent) in state.agents.iter().enumerate() {
                if node != owner && agent.container != Container::None {
                    return Some(format!("{:?} was left behind on {}", agent.container, names[node]));
                }
            }
        }
        None
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
            after.agents[node].die();
            if self.bounds.crashes && after != *state {
                next.push((Action { actor: actor(node), what: What::Died }, after));
            }
            if self.is(Broken::ThawsOnATimer) && state.agents[node].container == Container::Frozen {
                let mut after = *state;
                after.agents[node].container = Container::Running;
                next.push((Action { actor: actor(node), what: What::ThawedByItself }, after));
            }
        }
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
                Past::Done if overtakes(*step) => false,
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

    fn who(state: &State, migration: usize, role: Role) -> Option<usize> {
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

    fn order_arrives(&self, state: &State, migration: u8, step: Step, next: &mut Next) {
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
    fn work(&self, state: &State, node: usize, migration: usize, next: &mut Next) {
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
                    next.push((Action { actor: actor(node), what: What::Worked(step, "ships everything") }, after));
                }
            }
            (Step::Ship, 0 | 1) => ends.push(other),
            (Step::Ship, 2) => ends.push(cancelled),
            (Step::Restore, 0) if record.exists => {
                on("notes that it begins", &|agent| agent.records[migration].begin(step));
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
                    on("restores, held", &|agent| agent.container = held);
                }
            }
            (Step::Resume, 0) if record.resumed => ends.push(Said::Done),
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
            (Step::Discard, 0) => on("removes the container", &|agent| {
                if agent.has(record.container) {
                    agent.container = Container::None;
                }
            }),
            (Step::Abandon, 0) if record.resumed => ends.push(other),
            (Step::Abandon, 0) => on("removes the container", &|agent| {
                agent.memory[migration].expecting = false;
                agent.memory[migration].arrived = false;
                if record.has_begun(Step::Reserve) && agent.has(record.container) {
                    agent.container = Container::None;
                }
            }),
            (Step::Settle, 0) => on("cleans up", &|agent| agent.memory[migration].expecting = false),
            (Step::Thaw, 0) => on("unpauses what it paused", &|agent| {
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

    /// Stores the answer, if it is one to store, and gives it.
    fn finish(&self, state: &State, node: usize, migration: usize, step: Step, said: Said, next: &mut Next) {
        let network = self.answered(state, migration as u8, step, said);
        let mut after = State { network, ..*state };
        let agent = &mut after.agents[node];
        agent.memory[migration].running = None;
        let record = &mut agent.records[migration];
        let closes = matches!(step, Step::Discard | Step::Abandon | Step::Settle | Step::Thaw)
            && said != Said::Failed(FailureKind::Other)
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

fn actor(node: usize) -> Actor {
    Actor::Node(node as u8)
}

/// Carried out once at most.
const fn is_forward(step: Step) -> bool {
    matches!(step, Step::Inspect | Step::Reserve | Step::Ship | Step::Restore)
}

/// Ends what runs.
const fn overtakes(step: Step) -> bool {
    matches!(step, Step::Thaw | Step::Abandon)
}
