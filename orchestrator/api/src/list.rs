//! Lists: an object around the items, so that more can be said about them later.

use serde::{Deserialize, Serialize};

/// Several of something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct List<T> {
    /// The items, in a stable order.
    pub items: Vec<T>,
}
