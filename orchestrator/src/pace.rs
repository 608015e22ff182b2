//! How fast a stage's bytes travel, and how long they still need.

use fog_api::agent::{Progress, Stage};
use tokio::time::Instant;

/// How much a new report counts against the rate so far.
const NEWEST: f64 = 0.3;
/// Two reports closer than this say nothing about a rate.
const LEAST_S: f64 = 0.02;

/// What is known of the running stage.
#[derive(Debug, Default)]
pub struct Pace {
    last: Option<(Stage, u64, Instant)>,
    rate: Option<f64>,
}

impl Pace {
    /// Takes a report and gives the rate in bytes a second and the seconds that remain, as far as they are known.
    pub fn observe(&mut self, progress: &Progress, now: Instant) -> (Option<f64>, Option<f64>) {
        match self.last {
            Some((stage, bytes, at)) if stage == progress.stage && progress.bytes >= bytes => {
                let seconds = now.duration_since(at).as_secs_f64();
                if seconds >= LEAST_S {
                    #[expect(clippy::cast_precision_loss, reason = "a rate is not exact")]
                    let newest = (progress.bytes - bytes) as f64 / seconds;
                    self.rate = Some(self.rate.map_or(newest, |rate| rate + NEWEST * (newest - rate)));
                    self.last = Some((stage, progress.bytes, now));
                }
            }
            _ => {
                self.rate = None;
                self.last = Some((progress.stage, progress.bytes, now));
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "a remaining time is not exact")]
        let remaining = progress.bytes_total.map(|total| total.saturating_sub(progress.bytes) as f64);
        let eta = remaining.zip(self.rate.filter(|rate| *rate > 0.0)).map(|(remaining, rate)| remaining / rate);
        (self.rate, eta)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn report(stage: Stage, bytes: u64) -> Progress {
        Progress { migration: uuid::Uuid::nil(), stage, bytes, bytes_total: Some(1000) }
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
    }
}
