//! What becomes of the round trips in every sample: their mean and their longest, by the minute and by the hour.
//!
//! Only the nearest of a node's links are kept, so that a row stays small whatever the cluster's size: about 150 bytes, 210 KiB a node
//! and day. A step is written once it is over; of one that a restart cuts, the rest is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use fog_api::agent::LinkSample;

/// So many links of a node are kept, the nearest.
const NEAREST: usize = 8;

/// So many are gathered; a node of a large cluster measures fewer.
const GATHERED: usize = 32;

/// One level's length of a step. In a large cluster the finer one is coarser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// A minute, or five.
    Fine,
    /// An hour.
    Hour,
}

impl Level {
    /// As it is stored.
    pub fn number(self) -> i64 {
        match self {
            Level::Fine => 0,
            Level::Hour => 1,
        }
    }

    fn step_ms(self, small: bool) -> i64 {
        match (self, small) {
            (Level::Fine, true) => 60_000,
            (Level::Fine, false) => 300_000,
            (Level::Hour, _) => 3_600_000,
        }
    }
}

/// The mean round trip to each node in milliseconds, and the longest.
pub type Links = BTreeMap<Arc<str>, (f64, f64)>;

/// A step that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Whose links.
    pub node: Arc<str>,
    /// How long it is.
    pub level: Level,
    /// Its beginning.
    pub at_ms: i64,
    /// What there was.
    pub links: Links,
}

/// A node's steps that are not over.
#[derive(Debug, Clone, Default)]
pub struct Delays {
    fine: Open,
    hour: Open,
}

#[derive(Debug, Clone, Default)]
struct Open {
    at_ms: i64,
    /// To whom, the sum, the longest, how many.
    links: Vec<(Arc<str>, f64, f64, u32)>,
}

impl Delays {
    /// A sample's links. What is over by then goes to `over`. `small`: whether the cluster is.
    pub fn learn(&mut self, node: &Arc<str>, at_ms: i64, links: &[LinkSample], small: bool, over: &mut Vec<Step>) {
        for (open, level) in [(&mut self.fine, Level::Fine), (&mut self.hour, Level::Hour)] {
            let begin = at_ms - at_ms.rem_euclid(level.step_ms(small));
            if begin > open.at_ms {
                let links = open.take();
                if !links.is_empty() {
                    over.push(Step { node: Arc::clone(node), level, at_ms: open.at_ms, links });
                }
                open.at_ms = begin;
            }
            // What comes late counts where the others are.
            links.iter().for_each(|link| open.add(link));
        }
    }
}

impl Open {
    fn add(&mut self, link: &LinkSample) {
        let Some(rtt_ms) = link.rtt_ms else { return };
        if let Some((_, sum, longest, count)) = self.links.iter_mut().find(|(to, ..)| **to == *link.to) {
            (*sum, *longest, *count) = (*sum + rtt_ms, longest.max(rtt_ms), *count + 1);
        } else if self.links.len() < GATHERED {
            self.links.push((link.to.as_str().into(), rtt_ms, rtt_ms, 1));
        }
    }

    fn take(&mut self) -> Links {
        let thousandth = |ms: f64| (ms * 1000.0).round() / 1000.0;
        let mean = |(to, sum, longest, count): (Arc<str>, f64, f64, u32)| {
            (to, (thousandth(sum / f64::from(count)), thousandth(longest)))
        };
        let mut links: Vec<_> = std::mem::take(&mut self.links).into_iter().map(mean).collect();
        links.sort_by(|a, b| a.1.0.total_cmp(&b.1.0).then_with(|| a.0.cmp(&b.0)));
        links.into_iter().take(NEAREST).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(to: &str, rtt_ms: Option<f64>) -> LinkSample {
        LinkSample { to: to.into(), rtt_ms, loss: 0.0, bandwidth_mbps: None }
    }

    #[test]
    fn a_step_is_told_once_it_is_over() {
        let (node, mut delays, mut over) = (Arc::from("A"), Delays::default(), Vec::new());
        let mut learn = |at_s: i64, links: &[LinkSample]| {
            delays.learn(&node, at_s * 1000, links, true, &mut over);
            std::mem::take(&mut over)
        };
        assert_eq!(learn(7260, &[link("B", Some(1.0)), link("C", None)]), []);
        assert_eq!(learn(7270, &[link("B", Some(4.0))]), []);
        let minute = learn(7320, &[link("B", Some(9.0))]);
        let links = Links::from([("B".into(), (2.5, 4.0))]);
        assert_eq!(minute, [Step { node: "A".into(), level: Level::Fine, at_ms: 7_260_000, links }]);
        let both = learn(10_800, &[]);
        let hour = Links::from([("B".into(), (4.667, 9.0))]);
        assert_eq!(both.iter().map(|step| step.level).collect::<Vec<_>>(), [Level::Fine, Level::Hour]);
        assert_eq!((both[1].at_ms, &both[1].links), (7_200_000, &hour));
        assert_eq!(learn(20_000, &[]), [], "nobody answered");
    }

    #[test]
    fn the_nearest_are_kept() {
        let (node, mut delays, mut over) = (Arc::from("A"), Delays::default(), Vec::new());
        let links: Vec<_> = (0..40).map(|number| link(&format!("n{number}"), Some(f64::from(40 - number)))).collect();
        delays.learn(&node, 0, &links, false, &mut over);
        delays.learn(&node, 1, &links, false, &mut over);
        delays.learn(&node, 300_000, &[], false, &mut over);
        assert_eq!(over[0].links.len(), NEAREST);
        assert!(over[0].links.values().all(|(mean, _)| *mean <= 16.0), "{:?}", over[0].links);
    }
}
