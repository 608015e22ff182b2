//! Words, numbers and tables for people.

pub(crate) mod decision;
pub(crate) mod migration;
pub(crate) mod paint;
pub(crate) mod table;
pub(crate) mod text;
pub(crate) mod units;
