//! Lists: an object around the items, so that more can be said about them later.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Several of something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct List<T> {
    /// The items, in a stable order.
    pub items: Vec<T>,
    /// Give it as `cursor` to get the next page; left out on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}
