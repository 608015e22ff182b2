//! Simulated nodes: they dial the real orchestrator, speak the agents' channel as real agents do and carry orders out
//! on a [`world::World`] of containers that exist only as values. For tests of the control plane, for scale, and for
//! `make demo-sim`; never instead of the real path, which `tests/e2e` covers.

pub mod node;
pub mod trouble;
pub mod world;
