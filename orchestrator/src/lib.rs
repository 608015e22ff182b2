//! The orchestrator's service around the pure [`fog_core`]: what listens, stores, waits and tells agents what to do.
//!
//! `channel` (agents dial in) → `ingest` → `fleet` (what is known now) and `store` (what must survive) → `snapshot` →
//! `planner` (asks fog-core) → `driver` (one task a migration, carries out what fog-core's state machine says) → `channel`.
//! `http` is the way in for people.

pub mod agents;
pub mod app;
mod aside;
pub mod channel;
pub mod checkups;
pub mod clock;
pub mod config;
pub mod delays;
pub mod driver;
pub mod events;
pub mod fleet;
pub mod http;
pub mod ingest;
pub mod lines;
pub mod metrics;
pub mod pace;
pub mod peers;
pub mod planner;
pub mod policy;
pub mod preflight;
pub mod proposals;
pub mod pulse;
pub mod record;
pub mod resize;
mod seen;
pub mod service;
pub mod snapshot;
pub mod store;
pub mod token;
pub mod usual;
pub mod webhooks;
