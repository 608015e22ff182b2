//! The recent probes of one link and what they say.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::probe::Mark;

/// Probes that count.
const RECENT: usize = 8;

/// An unanswered probe is lost after this time; until then it says nothing.
const LOST_AFTER: Duration = Duration::from_secs(1);

/// The recent probes of one link.
#[derive(Debug, Default)]
pub(super) struct History {
    probes: VecDeque<Probe>,
}

#[derive(Debug)]
struct Probe {
    mark: Mark,
    sent: Instant,
    round_trip: Option<Duration>,
}

impl History {
    /// A probe leaves.
    pub(super) fn sent(&mut self, mark: Mark, at: Instant) {
        // One more than count, so that the youngest may still be under way.
        if self.probes.len() > RECENT {
            self.probes.pop_front();
        }
        self.probes.push_back(Probe { mark, sent: at, round_trip: None });
    }

    /// An echo arrives. False if it answers none of these probes. Only the first answer counts.
    pub(super) fn answered(&mut self, mark: Mark, at: Instant) -> bool {
        let Some(probe) = self.probes.iter_mut().find(|probe| probe.mark == mark) else { return false };
        let took = at.saturating_duration_since(probe.sent);
        if probe.round_trip.is_none() && took < LOST_AFTER * 2 {
            probe.round_trip = Some(took);
        }
        true
    }

    /// Median of the answered probes.
    pub(super) fn rtt(&self) -> Option<Duration> {
        let mut answered: Vec<Duration> = self.recent().filter_map(|probe| probe.round_trip).collect();
        answered.sort_unstable();
        let upper = *answered.get(answered.len() / 2)?;
        let lower = *answered.get(answered.len().saturating_sub(1) / 2)?;
        Some((lower + upper) / 2)
    }

    /// Fraction of the probes that went unanswered; 1 while nothing is known.
    pub(super) fn loss(&self, now: Instant) -> f64 {
        let decided =
            |probe: &&Probe| probe.round_trip.is_some() || now.saturating_duration_since(probe.sent) >= LOST_AFTER;
        let (mut all, mut lost) = (0_u32, 0_u32);
        for probe in self.recent().filter(decided) {
            all += 1;
            lost += u32::from(probe.round_trip.is_none());
        }
        if all == 0 { 1.0 } else { f64::from(lost) / f64::from(all) }
    }

    fn recent(&self) -> impl Iterator<Item = &Probe> {
        self.probes.iter().rev().take(RECENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(seq: u64) -> Mark {
        Mark { seq, nonce: 7 }
    }

    #[test]
    fn nothing_known() {
        let history = History::default();
        assert_eq!(history.rtt(), None);
        assert_eq!(history.loss(Instant::now()), 1.0);
    }

    #[test]
    fn the_median_ignores_an_outlier() {
        let mut history = History::default();
        let start = Instant::now();
        for (seq, ms) in [(1, 10), (2, 11), (3, 900)] {
            history.sent(mark(seq), start);
            assert!(history.answered(mark(seq), start + Duration::from_millis(ms)));
        }
        assert_eq!(history.rtt(), Some(Duration::from_millis(11)));
        assert_eq!(history.loss(start), 0.0);
        assert!(!history.answered(Mark { seq: 1, nonce: 8 }, start), "a forged nonce");
    }

    #[test]
    fn only_the_last_eight_count_and_one_under_way_says_nothing() {
        let mut history = History::default();
        let start = Instant::now();
        for seq in 0..8 {
            history.sent(mark(seq), start);
        }
        assert_eq!(history.loss(start + LOST_AFTER), 1.0);
        let later = start + Duration::from_secs(10);
        for seq in 8..14 {
            history.sent(mark(seq), later);
            history.answered(mark(seq), later + Duration::from_millis(3));
        }
        assert_eq!(history.loss(later), 0.25, "two of the last eight");
        history.sent(mark(14), later);
        assert!((history.loss(later) - 1.0 / 7.0).abs() < 1e-9, "one of seven that are decided");
    }
}
