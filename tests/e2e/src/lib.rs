//! A whole cluster on real hosts, for the end-to-end tests and the demo: fog-lab's hosts, the orchestrator's API and the
//! looper of the source thesis, whose numbers show whether anything was lost or doubled.

pub mod chaos;
pub mod clients;
pub mod cluster;
pub mod demo;
pub mod heavy;
pub mod looper;
pub mod meddler;
pub mod one_connection;
pub mod oracle;
pub mod pages;
pub mod random;
pub mod results;
pub mod witness;
pub mod workloads;
