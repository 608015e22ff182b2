//! Seeded clusters, and what is measured on them. The same seed gives the same cluster on every machine.

pub mod cluster;
pub mod random;
