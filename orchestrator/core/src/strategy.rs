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

/// A strategy was asked for that the workload does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "strategy {0} lets the container run before all of its memory is there, which is lost if the source dies meanwhile: \
     allow it with the container's label {POST_COPY}=allowed or with strategy = \"{0}\" in the policy, or use pre-copy"
)]
pub struct StrategyUnavailable(
    /// What was asked for.
    pub Strategy,
);

/// The label by which a workload allows post-copy and hybrid; its value is `allowed`.
pub const POST_COPY: &str = "fogshift.post-copy";

/// Freeze, dump and restore without memory, as measured on an idle machine.
const FIXED_MS: f64 = 150.0;

/// Shorter freezes than this are not worth any effort.
const SHORT_MS: f64 = 1000.0;

/// Nor is so little memory, however slow the link, as long as the freeze is one that the workload bears.
const SMALL_BYTES: u64 = 64 << 20;

/// What memory adds to a freeze in which it does not travel, because it is mapped and looked through: 200 ms at 1 GiB against
/// 113 ms at 4 MiB, measured with post-copy on an idle machine (`tests/bench/results`, 4311a6a).
const MAPPING_MS_PER_BYTE: f64 = 87.0 / (1u64 << 30) as f64;

/// When the agents end their rounds.
const MOST_ROUNDS: u32 = 10;
const LITTLE_BYTES: f64 = (4u64 << 20) as f64;

/// What the choice of a strategy depends on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Facts {
    /// Memory in use.
    pub memory_bytes: u64,
    /// How many processes it has, where that is known.
    pub processes: Option<u32>,
    /// Memory written per second, where it was measured.
    pub dirty_bytes_per_s: Option<u64>,
    /// What the link carries, in Mbit/s: measured, or assumed.
    pub mbps: f64,
    /// The longest freeze that the workload bears.
    pub max_downtime_ms: u64,
    /// It may run before all of its memory is there.
    pub post_copy: bool,
}

/// Why a strategy is the one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Because {
    ItIsLittle,
    PagesMayBeShared,
    ItWritesFaster,
    SomeKeepsChanging,
    AheadWinsNothing,
    AheadShortensTheFreeze,
}

/// What a strategy is likely to take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Prediction {
    pub(crate) downtime_ms: f64,
    /// Bytes of memory that travel, each time that they do.
    pub(crate) bytes: f64,
}

impl Facts {
    /// Picks a strategy and says why in one sentence.
    pub fn choose(&self) -> (Strategy, String) {
        let (strategy, because) = self.judge();
        let memory = format!(
            "{:.0} MiB of memory cross the link in about {:.1} s",
            self.memory_bytes as f64 / 1_048_576.0,
            self.freeze_ms() / 1e3
        );
        let why = match because {
            Because::ItIsLittle => format!("{memory}, which needs no preparation"),
            Because::PagesMayBeShared => {
                let processes = self.processes.map_or("an unknown number of".to_owned(), |count| count.to_string());
                format!("{memory}; it has {processes} processes, which may share pages")
            }
            Because::ItWritesFaster => {
                format!("{memory} and it writes faster than that, so the rest follows while it runs")
            }
            Because::SomeKeepsChanging => {
                format!("{memory}, so it is sent while it runs, and what keeps changing follows after the freeze")
            }
            Because::AheadWinsNothing => {
                format!("{memory} and it writes faster than that, so sending ahead would win nothing")
            }
            Because::AheadShortensTheFreeze => format!(
                "{memory}, so it is sent while it runs; refused before the freeze if what keeps changing does not fit into \
                 {} ms (post-copy is not allowed)",
                self.max_downtime_ms
            ),
        };
        (strategy, why)
    }

    /// The strategy that [`choose`](Self::choose) picks.
    pub(crate) fn pick(&self) -> Strategy {
        self.judge().0
    }

    fn judge(&self) -> (Strategy, Because) {
        let freeze_ms = self.freeze_ms();
        let bearable = freeze_ms <= self.max_downtime_ms as f64;
        if bearable && (freeze_ms <= SHORT_MS || self.memory_bytes <= SMALL_BYTES) {
            return (Strategy::StopAndCopy, Because::ItIsLittle);
        }
        // Only CRIU's own images keep pages shared between processes; page by page each would get a copy of its own.
        if self.processes != Some(1) {
            return (Strategy::StopAndCopy, Because::PagesMayBeShared);
        }
        match (self.dirty_bytes_per_s.map(|dirty| dirty as f64 >= self.rate()), self.post_copy) {
            (Some(true), true) => (Strategy::PostCopy, Because::ItWritesFaster),
            (_, true) => (Strategy::Hybrid, Because::SomeKeepsChanging),
            (Some(true), false) if bearable => (Strategy::StopAndCopy, Because::AheadWinsNothing),
            (_, false) => (Strategy::PreCopy, Because::AheadShortensTheFreeze),
        }
    }

    /// What `strategy` is likely to take. Rounds ahead of the freeze end as the agents end them: when little is left, or a
    /// round wins too little; a rate of writing that nobody has measured counts as none.
    pub(crate) fn predict(&self, strategy: Strategy) -> Prediction {
        let (rate, all) = (self.rate(), self.memory_bytes as f64);
        let (mut left, mut sent) = (all, 0.0);
        if matches!(strategy, Strategy::PreCopy | Strategy::Hybrid) {
            let dirty = self.dirty_bytes_per_s.unwrap_or(0) as f64;
            for _ in 0..MOST_ROUNDS {
                let changed = (dirty * left / rate).min(all);
                sent += left;
                let shrinks = changed * 10.0 < left * 7.0;
                left = changed;
                if !shrinks || left <= LITTLE_BYTES {
                    break;
                }
            }
        }
        let waits = match strategy {
            Strategy::PostCopy | Strategy::Hybrid => 0.0,
            Strategy::StopAndCopy | Strategy::PreCopy | Strategy::Auto => left / rate * 1e3,
        };
        let mapped = match strategy {
            Strategy::StopAndCopy | Strategy::Auto => 0.0,
            Strategy::PreCopy | Strategy::PostCopy | Strategy::Hybrid => MAPPING_MS_PER_BYTE * all,
        };
        Prediction { downtime_ms: FIXED_MS + mapped + waits, bytes: sent + left }
    }

    /// If all of its memory travels in the freeze.
    fn freeze_ms(&self) -> f64 {
        FIXED_MS + self.memory_bytes as f64 / self.rate() * 1e3
    }

    /// Bytes a second.
    fn rate(&self) -> f64 {
        self.mbps.max(0.001) * 1e6 / 8.0
    }
}

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

    /// Whether the container runs before all of its memory is there.
    pub fn is_post_copy(self) -> bool {
        matches!(self, Self::PostCopy | Self::Hybrid)
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
    fn the_words_are_those_of_the_interface() {
        for strategy in Strategy::ALL {
            assert_eq!(serde_json::to_string(&strategy).expect("json"), format!("\"{strategy}\""));
        }
    }

    #[test]
    fn the_choice_follows_memory_link_and_what_is_allowed() {
        let facts = |mebibytes: u64, mbps, post_copy| Facts {
            memory_bytes: mebibytes << 20,
            processes: Some(1),
            dirty_bytes_per_s: None,
            mbps,
            max_downtime_ms: 2000,
            post_copy,
        };
        assert_eq!(facts(4, 1000.0, true).choose().0, Strategy::StopAndCopy);
        assert_eq!(facts(60, 1000.0, true).choose().0, Strategy::StopAndCopy, "it is short");
        assert_eq!(facts(60, 300.0, true).choose().0, Strategy::StopAndCopy, "it is little");
        assert_eq!(facts(60, 100.0, false).choose().0, Strategy::PreCopy, "little, but more than it bears");
        assert_eq!(facts(1024, 1000.0, false).choose().0, Strategy::PreCopy);
        for processes in [Some(2), None] {
            let (strategy, why) = Facts { processes, ..facts(1024, 1000.0, true) }.choose();
            assert_eq!(strategy, Strategy::StopAndCopy, "{why}");
            assert!(why.contains("share pages"), "{why}");
        }
        assert_eq!(facts(1024, 1000.0, true).choose().0, Strategy::Hybrid);
        let fast_writer = |post_copy| Facts { dirty_bytes_per_s: Some(1 << 30), ..facts(200, 1000.0, post_copy) };
        assert_eq!(fast_writer(true).choose().0, Strategy::PostCopy);
        assert_eq!(fast_writer(false).choose().0, Strategy::StopAndCopy, "it fits into the budget");
        let tight = Facts { max_downtime_ms: 500, ..fast_writer(false) };
        assert_eq!(tight.choose().0, Strategy::PreCopy);
        assert!(tight.choose().1.contains("500 ms"));
    }

    #[test]
    fn each_strategy_is_predicted_its_own_freeze() {
        // 1 GiB over 1 Gbit/s: 8.6 s.
        let facts = |dirty_mib: u64| Facts {
            memory_bytes: 1 << 30,
            processes: Some(1),
            dirty_bytes_per_s: Some(dirty_mib << 20),
            mbps: 1000.0,
            max_downtime_ms: 10_000,
            post_copy: true,
        };
        let downtime = |dirty, strategy| facts(dirty).predict(strategy).downtime_ms.round();
        let gibibytes = |dirty, strategy| facts(dirty).predict(strategy).bytes / (1u64 << 30) as f64;
        assert_eq!(downtime(0, Strategy::StopAndCopy), 8740.0);
        assert_eq!(downtime(0, Strategy::PostCopy), 237.0);
        assert_eq!(downtime(0, Strategy::PreCopy), 237.0, "nothing is left for the freeze");
        // 10 MiB/s: 86 MiB after the first round, 7 after the second, less than 1 after the third.
        assert!((238.0..243.0).contains(&downtime(10, Strategy::PreCopy)), "{}", downtime(10, Strategy::PreCopy));
        assert!((1.08..1.10).contains(&gibibytes(10, Strategy::PreCopy)));
        // As fast as the link: a round wins nothing, all of it is left.
        assert_eq!(downtime(200, Strategy::PreCopy), 8827.0);
        assert_eq!(downtime(200, Strategy::Hybrid), 237.0);
        assert_eq!(gibibytes(200, Strategy::Hybrid), 2.0);
        assert_eq!(gibibytes(200, Strategy::PostCopy), 1.0);
    }

    proptest::proptest! {
        #[test]
        fn what_is_not_allowed_is_never_chosen(
            memory_bytes: u64, processes: Option<u32>, dirty: Option<u64>, mbps in 0.0..1e6, max_downtime_ms: u64, post_copy: bool
        ) {
            let facts = Facts { memory_bytes, processes, dirty_bytes_per_s: dirty, mbps, max_downtime_ms, post_copy };
            let (strategy, why) = facts.choose();
            proptest::prop_assert!(strategy != Strategy::Auto && !why.is_empty());
            proptest::prop_assert!(post_copy || !strategy.is_post_copy());
            proptest::prop_assert_eq!(strategy, facts.pick());
            for strategy in Strategy::ALL {
                let predicted = facts.predict(strategy);
                proptest::prop_assert!(predicted.downtime_ms >= FIXED_MS && predicted.bytes >= memory_bytes as f64);
            }
        }
    }
}
