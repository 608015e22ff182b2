//! What must hold in every state.

use fog_core::migration::Phase;

use super::{Model, State};
use crate::agent::Container;

impl Model {
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
        let frozen_elsewhere = state.agents.iter().any(|agent| agent.container == Container::Frozen);
        for (node, agent) in state.agents.iter().enumerate() {
            let coming = agent.memory.iter().any(|memory| memory.coming);
            if agent.container == Container::Running && !agent.whole && !coming {
                return Some(format!("it runs on {} without its memory, and nobody brings it", names[node]));
            }
        }
        // The destination died with memory under way: the frozen copy is the last consistent state.
        let declared = self.bounds.pages && state.agents[owner].container == Container::None && frozen_elsewhere;
        if !declared
            && !matches!(state.agents[owner].container, Container::Running | Container::Frozen | Container::Held)
        {
            return Some(format!("it is lost: {} owns it and has {:?}", names[owner], state.agents[owner].container));
        }
        let held = state.agents[owner].container == Container::Held;
        if held && !frozen_elsewhere {
            return Some("the only copy has never run".to_owned());
        }
        let newest = Self::newest(state)?;
        let phase = self.phase(newest);
        if matches!(phase, Phase::RolledBack | Phase::Done) && running.is_empty() {
            return Some(format!("{phase:?} was said and it does not run"));
        }
        if self.is_lost(state) && state.agents[owner].container != Container::None {
            return Some(format!(
                "it is declared lost, and {} has it {:?}",
                names[owner], state.agents[owner].container
            ));
        }
        if phase == Phase::Failed && !self.is_lost(state) {
            return Some("it was given up although nobody touched the container".to_owned());
        }
        if self.is_finished(state) && !self.is_lost(state) {
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
}
