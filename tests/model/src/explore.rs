//! Breadth first, so that a counterexample is a shortest one.

use std::fmt;

use indexmap::IndexSet;

use crate::action::{Action, Actor};
use crate::model::{Model, State};

/// How a state that breaks a promise came about.
pub struct Trace {
    /// The promise.
    pub promise: String,
    lines: Vec<String>,
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.promise)?;
        self.lines.iter().enumerate().try_for_each(|(index, line)| writeln!(f, "  {:>3}. {line}", index + 1))
    }
}

/// What was seen.
pub struct Explored {
    /// Different states.
    pub states: usize,
    /// Steps between them.
    pub transitions: usize,
    /// Of these, in how many nothing was left to do.
    pub finished: usize,
    /// The first promise that was broken.
    pub broken: Option<Trace>,
    /// Not everything was looked at.
    pub cut_short: bool,
}

/// Who may still act.
#[derive(Clone, Copy)]
struct Edge {
    from: u32,
    to: u32,
    /// The node that acted, or 255.
    node: u8,
}

/// Looks at everything that can be reached, up to `most` states.
pub fn explore(model: &Model, most: usize) -> Explored {
    let start = model.start();
    let mut states: IndexSet<State> = IndexSet::from([start]);
    let mut parents: Vec<Option<(u32, Action)>> = vec![None];
    let mut edges: Vec<Edge> = Vec::new();
    let mut broken = model.broken_promise(&start).map(|promise| (promise, 0));
    let mut at = 0;
    while at < states.len() && states.len() < most && broken.is_none() {
        let state = states[at];
        for (action, after) in model.next(&state) {
            let (to, new) = states.insert_full(after);
            let node = if let Actor::Node(node) = action.actor { node } else { u8::MAX };
            edges.push(Edge { from: at as u32, to: to as u32, node });
            if new {
                parents.push(Some((at as u32, action)));
                if broken.is_none() {
                    broken = model.broken_promise(&after).map(|promise| (promise, to));
                }
            }
        }
        at += 1;
    }
    let cut_short = broken.is_none() && at < states.len();
    let finished = states.iter().filter(|state| model.is_finished(state)).count();
    if broken.is_none() && !cut_short {
        broken = stuck(model, &states, &edges);
    }
    let trace = |(promise, index): (String, usize)| {
        let mut lines = Vec::new();
        let mut index = index;
        while let Some((parent, action)) = parents[index] {
            lines.push(format!("{:<78} {}", action.to_string(), model.describe(&states[index])));
            index = parent as usize;
        }
        lines.reverse();
        Trace { promise, lines }
    };
    let broken = broken.map(trace);
    Explored { states: states.len(), transitions: edges.len(), finished, broken, cut_short }
}

/// A state from which the end cannot be reached any more, or only with the help of a node that may never come back.
fn stuck(model: &Model, states: &IndexSet<State>, edges: &[Edge]) -> Option<(String, usize)> {
    let all = Backwards::new(states.len(), edges.iter().copied());
    let ends = all.reach(|index| model.is_finished(&states[index]));
    if let Some(index) = ends.iter().position(|reached| !reached) {
        return Some(("from here it never comes to an end".to_owned(), index));
    }
    if model.has_pages() {
        return None; // the destination needs the source until nothing is missing: that is post-copy
    }
    for owner in 0..3 {
        let owns = |index: usize| model.owner(&states[index]) == owner;
        let alone = edges.iter().copied().filter(|edge| {
            (edge.node == u8::MAX || edge.node == owner) && owns(edge.from as usize) && owns(edge.to as usize)
        });
        let runs =
            Backwards::new(states.len(), alone).reach(|index| owns(index) && model.runs_at_owner(&states[index]));
        if let Some(index) = (0..states.len()).find(|index| owns(*index) && !runs[*index]) {
            return Some(("from here it never runs again unless the other node comes back".to_owned(), index));
        }
    }
    None
}

struct Backwards {
    starts: Vec<u32>,
    froms: Vec<u32>,
}

impl Backwards {
    fn new(states: usize, edges: impl Iterator<Item = Edge> + Clone) -> Backwards {
        let mut starts = vec![0_u32; states + 1];
        for edge in edges.clone() {
            starts[edge.to as usize + 1] += 1;
        }
        for index in 0..states {
            starts[index + 1] += starts[index];
        }
        let mut place = starts.clone();
        let mut froms = vec![0; starts[states] as usize];
        for edge in edges {
            froms[place[edge.to as usize] as usize] = edge.from;
            place[edge.to as usize] += 1;
        }
        Backwards { starts, froms }
    }

    fn reach(&self, is_end: impl Fn(usize) -> bool) -> Vec<bool> {
        let states = self.starts.len() - 1;
        let mut reached: Vec<bool> = (0..states).map(is_end).collect();
        let mut todo: Vec<usize> = (0..states).filter(|index| reached[*index]).collect();
        while let Some(index) = todo.pop() {
            for from in &self.froms[self.starts[index] as usize..self.starts[index + 1] as usize] {
                if !std::mem::replace(&mut reached[*from as usize], true) {
                    todo.push(*from as usize);
                }
            }
        }
        reached
    }
}
