//! Fogshift's wire types: what the REST API, the agents' channel and the events say.
//!
//! Pure data. Instants are RFC 3339 in UTC, durations and sizes carry their unit in the name
//! (`downtime_ms`, `memory_bytes`), fractions run from 0 to 1. The `client` feature adds the
//! typed client that `fogctl` and the end-to-end tests use; `log` adds how the programs write their log.
#![warn(missing_docs)]

pub mod agent;
pub mod audit;
#[cfg(feature = "client")]
pub mod client;
pub mod decision;
pub mod doctor;
pub mod drain;
pub mod event;
pub mod identity;
pub mod list;
#[cfg(feature = "log")]
pub mod log;
pub mod migration;
pub mod node;
pub mod plan;
pub mod policy;
pub mod preflight;
pub mod problem;
pub mod sample;
pub mod service;
pub mod webhook;
pub mod workload;
