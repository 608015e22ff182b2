//! How fast a stage's bytes travel, and how long they still need.

use std::collections::BTreeMap;

use fog_api::agent::{Progress, Stage};
use tokio::time::Instant;

/// How much a new report counts against the rate so far.
const NEWEST: f64 = 0.3;
/// Two reports closer than this say nothing about a rate.
const LEAST_S: f64 = 0.02;

/// What is known of the stages of a phase. Both ends report at once, so each stage has its own.
#[derive(Debug, Default)]
pub struct Pace {
    stages: BTreeMap<Stage, Flow>,
}

#[derive(Debug, Clone, Copy)]
struct Flow {
    round: usize,
    bytes: u64,
    at: Instant,
    rate: Option<f64>,
}

impl Pace {
    /// Takes a report and gives the rate in bytes a second and the seconds that remain, as far as they are known.
    pub fn observe(&mut self, progress: &Progress, now: Instant) -> (Option<f64>, Option<f64>) {
        let (round, bytes) = (progress.finished.rounds.len(), progress.bytes);
        let begun = Flow { round, bytes, at: now, rate: None };
        let flow = self.stages.entry(progress.stage).or_insert(begun);
        if flow.round != round {
            *flow = begun;
        }
        let seconds = now.duration_since(flow.at).as_secs_f64();
        // Of two ends that report the same stage one is behind.
        if seconds >= LEAST_S && bytes >= flow.bytes {
            #[expect(clippy::cast_precision_loss, reason = "a rate is not exact")]
            let newest = (bytes - flow.bytes) as f64 / seconds;
            flow.rate = Some(flow.rate.map_or(newest, |rate| rate + NEWEST * (newest - rate)));
            (flow.bytes, flow.at) = (bytes, now);
        }
        #[expect(clippy::cast_precision_loss, reason = "a remaining time is not exact")]
        let remaining = progress.bytes_total.map(|total| total.saturating_sub(bytes) as f64);
        let eta = remaining.zip(flow.rate.filter(|rate| *rate > 0.0)).map(|(remaining, rate)| remaining / rate);
        (flow.rate, eta)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn report(stage: Stage, bytes: u64) -> Progress {
        let finished = fog_api::agent::Finished::default();
        Progress { migration: uuid::Uuid::nil(), stage, bytes, bytes_total: Some(1000), finished }
    }

    #[test]
    fn a_steady_stage_has_its_rate_and_a_new_one_begins_anew() {
        let mut pace = Pace::default();
        let begin = Instant::now();
        assert_eq!(pace.observe(&report(Stage::Ship, 0), begin), (None, None));
        for second in 1..=4 {
            let (rate, eta) = pace.observe(&report(Stage::Ship, second * 100), begin + Duration::from_secs(second));
            assert!((rate.unwrap() - 100.0).abs() < 1e-9);
            assert!((eta.unwrap() - (10 - second) as f64).abs() < 1e-9);
        }
        let same_moment = pace.observe(&report(Stage::Ship, 500), begin + Duration::from_secs(4));
        assert_eq!(same_moment, (Some(100.0), Some(5.0)));
        assert_eq!(pace.observe(&report(Stage::Verify, 0), begin + Duration::from_secs(5)), (None, None));
        let (rate, _) = pace.observe(&report(Stage::Ship, 600), begin + Duration::from_secs(6));
        assert!((rate.unwrap() - 100.0).abs() < 20.0, "the other end's stage does not disturb: {rate:?}");
    }

    #[test]
    fn a_round_begins_anew() {
        let (mut pace, begin) = (Pace::default(), Instant::now());
        let round = fog_api::agent::MemoryRound { content_bytes: 900, sent_bytes: 900, took_ms: 1000.0 };
        let mut later = report(Stage::PreCopy, 10);
        later.finished.rounds = vec![round];
        pace.observe(&report(Stage::PreCopy, 0), begin);
        assert_eq!(pace.observe(&report(Stage::PreCopy, 500), begin + Duration::from_secs(1)).0, Some(500.0));
        assert_eq!(pace.observe(&later, begin + Duration::from_secs(2)), (None, None));
        later.bytes = 60;
        assert_eq!(pace.observe(&later, begin + Duration::from_secs(3)).0, Some(50.0));
    }
}
