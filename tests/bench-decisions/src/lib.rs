//! Seeded clusters, and what is measured on them. The same seed gives the same cluster on every machine.

pub mod balancer;
pub mod cluster;
pub mod day;
pub mod exact;
pub mod plot;
pub mod random;
