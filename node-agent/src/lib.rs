//! Fogshift's node agent: samples its node and moves containers when told.
//!
//! A library so that tests can drive its parts; the program in `main.rs` only reads the command
//! line. Nothing here decides where a container goes.

pub mod agent;
pub mod channel;
pub mod config;
pub mod doctor;
pub mod engine;
pub mod facts;
pub mod files;
pub mod journal;
pub mod lines;
pub mod links;
pub mod lock;
pub mod memory;
pub mod reporter;
pub mod runtime;
pub mod sampler;
pub mod tools;
pub mod transfer;
