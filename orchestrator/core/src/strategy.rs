//! How a workload's state travels.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A way to migrate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Freeze, dump everything, ship, restore.
    StopAndCopy,
    /// Ship memory while it runs, then freeze and ship the rest.
    PreCopy,
    /// Freeze, restore at once, ship memory while it already runs on the destination.
    PostCopy,
    /// Pre-copy rounds, then post-copy for the rest.
    Hybrid,
    /// The planner chooses.
    #[default]
    Auto,
}

/// A strategy was asked for that this version can't do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("strategy {0} is not available yet: use stop-and-copy or auto")]
pub struct StrategyUnavailable(
    /// What was asked for.
    pub Strategy,
);

impl Strategy {
    /// Every strategy, in the order of the documentation.
    pub const ALL: [Self; 5] = [Self::StopAndCopy, Self::PreCopy, Self::PostCopy, Self::Hybrid, Self::Auto];

    /// The word that the API and the command line use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StopAndCopy => "stop-and-copy",
            Self::PreCopy => "pre-copy",
            Self::PostCopy => "post-copy",
            Self::Hybrid => "hybrid",
            Self::Auto => "auto",
        }
    }

    /// The strategy to use and why, never `Auto`.
    pub fn resolve(self) -> Result<(Self, &'static str), StrategyUnavailable> {
        match self {
            Self::StopAndCopy => Ok((Self::StopAndCopy, "stop-and-copy was asked for")),
            Self::Auto => Ok((Self::StopAndCopy, "stop-and-copy is the only strategy available in this version")),
            Self::PreCopy | Self::PostCopy | Self::Hybrid => Err(StrategyUnavailable(self)),
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_stop_and_copy_and_the_rest_is_refused() {
        for strategy in Strategy::ALL {
            assert_eq!(serde_json::to_string(&strategy).expect("json"), format!("\"{strategy}\""));
            match strategy.resolve() {
                Ok((resolved, _)) => assert_eq!(resolved, Strategy::StopAndCopy),
                Err(refused) => assert_eq!(refused, StrategyUnavailable(strategy)),
            }
        }
        assert_eq!(
            Strategy::PreCopy.resolve().expect_err("not yet").to_string(),
            "strategy pre-copy is not available yet: use stop-and-copy or auto"
        );
    }
}
