//! What is usual: averages over the last hour or so that fade, so that a burst is told from a habit.

use jiff::Timestamp;

/// What a workload uses on average, over the last hour or so.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usual {
    cpus: f64,
    learned_s: f64,
}

impl Usual {
    /// Older than this fades.
    const MEMORY_S: f64 = 3600.0;
    /// Known for less than this, an average says nothing.
    const LEAST_S: f64 = 600.0;

    /// Takes in what was used over so many seconds; more than a minute counts as one.
    pub fn learn(&mut self, cpus: f64, seconds: f64) {
        let seconds = seconds.clamp(0.0, 60.0);
        self.learned_s += seconds;
        if self.learned_s > 0.0 {
            self.cpus += (cpus - self.cpus) * (seconds / self.learned_s.min(Self::MEMORY_S)).min(1.0);
        }
    }

    /// Cores, once enough has been seen.
    pub fn cpus(&self) -> Option<f64> {
        (self.learned_s >= Self::LEAST_S).then_some(self.cpus)
    }
}

/// The share of the last hour or so in which a node was at the policy's threshold or above.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Hot {
    share: f64,
    seen_at: Option<Timestamp>,
}

impl Hot {
    /// Takes in a sample; what came before it counts for a minute at most.
    pub fn learn(&mut self, hot: bool, at: Timestamp) {
        let seconds = self.seen_at.map_or(0.0, |seen| at.duration_since(seen).as_secs_f64().clamp(0.0, 60.0));
        self.share += (f64::from(u8::from(hot)) - self.share) * seconds / Usual::MEMORY_S;
        self.seen_at = self.seen_at.max(Some(at));
    }

    /// 0 to 1; what was not seen counts as not hot.
    pub fn share(&self) -> f64 {
        self.share
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_is_usual_is_known_after_a_while_and_a_burst_hardly_changes_it() {
        let mut usual = Usual::default();
        (0..4).for_each(|_| usual.learn(0.5, 60.0));
        assert_eq!(usual.cpus(), None);
        (0..60).for_each(|_| usual.learn(0.5, 60.0));
        (0..3).for_each(|_| usual.learn(2.0, 60.0));
        let known = usual.cpus().unwrap();
        assert!((0.5..0.6).contains(&known), "{known}");
    }

    #[test]
    fn a_node_that_is_hot_again_and_again_is_told_from_one_that_was_hot_once() {
        let mut hot = Hot::default();
        let minute = |minute: i64| Timestamp::from_second(minute * 60).unwrap();
        (0..60).for_each(|at| hot.learn(at % 6 == 0, minute(at)));
        assert!((0.08..0.17).contains(&hot.share()), "{hot:?}");
        (60..300).for_each(|at| hot.learn(false, minute(at)));
        assert!(hot.share() < 0.01, "{hot:?}");
        // What comes late, or after a long silence, counts no more than a minute.
        hot.learn(true, minute(10));
        hot.learn(true, minute(10_000));
        assert!(hot.share() < 0.03, "{hot:?}");
    }
}
