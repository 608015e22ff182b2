//! The migration protocol under every fault, exhaustively: fog-core's *real* state machine, an orchestrator that stores
//! and acts and dies, agents that keep their contract and die, and a network that loses, repeats and reorders.
//!
//! ```text
//! orchestrator: Migration::step, ownership row   <── answers ──   agents: journal, fence, one container each
//!   durable: both; volatile: what it was about to do  ── orders ──>   durable: all three; volatile: the step under way
//! ```
//!
//! [`explore`] visits every state that [`Model`] can reach. In each it checks the [`Model::broken_promise`]s, and then
//! that from each one the end can still be reached, also when the other node never comes back. [`Broken`] variants of
//! the protocol must each be caught: they prove that the checks can fail.
//!
//! With [`Bounds::pages`] memory follows after the commit, as with post-copy and hybrid: the source stays frozen until it has
//! heard that nothing is missing, whoever loses the memory on its way ends the container and declares it lost, and the
//! frozen copy is left to a person. There the destination needs the source, and no promise says otherwise.
//!
//! What is *not* modelled: time (every order of events is possible, so no deadline can be relied on), the content of the
//! stream (`node-agent`'s transfer tests), Docker and CRIU themselves (the end-to-end tests).

mod action;
mod agent;
mod broken;
mod explore;
mod model;
mod network;
mod protocol;

pub use action::Action;
pub use agent::{Agent, Container};
pub use broken::Broken;
pub use explore::{Explored, Trace, explore};
pub use model::{Bounds, Model, Past, State};
