//! Fogshift's pure heart: what is known, what is decided, and how a migration proceeds.
//!
//! Nothing here reads a clock, a file, the environment or a source of randomness: the time is an argument (`now`), a
//! policy is text, a snapshot is a value. The same input therefore always gives the same decision, which is what makes
//! a decision explainable afterwards and testable before.
//!
//! The order of thought is the order of the modules: a [`model::Snapshot`] of the cluster (with
//! [`availability`] from heartbeats and [`telemetry`] from samples) and a [`policy::Policy`] go in; [`feasibility`] says
//! where a workload can run at all, [`score`] says where it runs best, [`plan`] says what is done about it and why.

#![warn(missing_docs)]

pub mod availability;
mod constraint;
pub mod coordinate;
mod estimate;
mod explain;
pub mod feasibility;
pub mod labels;
pub mod migration;
pub mod model;
pub mod name;
pub mod overload;
pub mod place;
pub mod plan;
pub mod policy;
pub mod problem;
mod projection;
pub mod replay;
pub mod score;
pub mod strategy;
pub mod telemetry;

pub use availability::{Availability, availability};
pub use feasibility::{Reason, ReasonCode, feasibility};
pub use model::{InFlight, Link, MigrateMode, Node, Snapshot, SnapshotError, Workload, WorkloadState};
pub use name::{NameError, NodeName, WorkloadName};
pub use overload::{Metric, Overload, overloads};
pub use place::{Refusal, place};
pub use plan::{Action, Candidate, Migrate, NotMoved, Plan, Resize, Trigger, Verdict, plan, recheck};
pub use policy::{Autonomy, Policy, PolicyError};
pub use problem::Problem;
pub use score::{Factor, FactorName, Score};
pub use strategy::{Strategy, StrategyUnavailable};
