//! Samples on their way to the orchestrator.
//!
//! Kept until acknowledged and sent again over every new connection, so that a restart of the
//! orchestrator leaves no hole in a node's history. The buffer is bounded: during a long absence
//! the oldest samples go first, since placement needs the newest.

use std::collections::VecDeque;

use fog_api::agent::{Heartbeat, Sample};

/// Samples in one message; small enough to pass while other traffic waits.
const BATCH: usize = 50;

/// Numbers samples and keeps them until they are acknowledged.
#[derive(Debug)]
pub struct Reporter {
    kept: VecDeque<Sample>,
    capacity: usize,
    last_seq: u64,
    /// Highest number sent over the current connection; nothing else is sent until it is acknowledged.
    in_flight: Option<u64>,
    dropped: u64,
}

impl Reporter {
    /// Keeps at most `capacity` samples.
    pub fn new(capacity: usize) -> Self {
        Self { kept: VecDeque::new(), capacity: capacity.max(1), last_seq: 0, in_flight: None, dropped: 0 }
    }

    /// Numbers and keeps a sample.
    pub fn keep(&mut self, mut sample: Sample) {
        self.last_seq += 1;
        sample.seq = self.last_seq;
        if self.kept.len() == self.capacity {
            self.kept.pop_front();
            if self.dropped == 0 {
                tracing::warn!(
                    capacity = self.capacity,
                    "the orchestrator has been away for longer than the buffer lasts: the oldest samples are dropped"
                );
            }
            self.dropped += 1;
        }
        self.kept.push_back(sample);
    }

    /// The next batch for this connection, if there is one and none is under way.
    pub fn next_batch(&mut self) -> Option<Heartbeat> {
        if self.in_flight.is_some() || self.kept.is_empty() {
            return None;
        }
        let samples: Vec<Sample> = self.kept.iter().take(BATCH).cloned().collect();
        self.in_flight = samples.last().map(|sample| sample.seq);
        Some(Heartbeat { samples })
    }

    /// The orchestrator has stored everything up to and including `up_to`.
    pub fn acknowledge(&mut self, up_to: u64) {
        while self.kept.front().is_some_and(|sample| sample.seq <= up_to) {
            self.kept.pop_front();
        }
        if self.in_flight.is_some_and(|sent| sent <= up_to) {
            self.in_flight = None;
        }
        if self.dropped > 0 && self.kept.len() < self.capacity {
            tracing::warn!(dropped = self.dropped, "samples were lost while the orchestrator was away");
            self.dropped = 0;
        }
    }

    /// A new connection: whatever was under way has to be sent again.
    pub fn rewind(&mut self) {
        self.in_flight = None;
    }

    /// Samples not acknowledged yet.
    pub fn waiting(&self) -> usize {
        self.kept.len()
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Sample {
        Sample {
            seq: 0,
            at: Timestamp::UNIX_EPOCH,
            cpu: 0.0,
            run_queue: 0.0,
            load1: 0.0,
            memory: 0.0,
            pressure: Default::default(),
            disk: 0.0,
            network_received_bytes_per_s: 0.0,
            network_sent_bytes_per_s: 0.0,
            temperature_c: None,
            workloads: None,
            links: Vec::new(),
        }
    }

    fn numbers(batch: Option<Heartbeat>) -> Vec<u64> {
        batch.map(|batch| batch.samples.iter().map(|sample| sample.seq).collect()).unwrap_or_default()
    }

    #[test]
    fn a_batch_is_sent_again_until_it_is_acknowledged() {
        let mut reporter = Reporter::new(10);
        reporter.keep(sample());
        reporter.keep(sample());
        assert_eq!(numbers(reporter.next_batch()), [1, 2]);
        reporter.keep(sample());
        assert_eq!(numbers(reporter.next_batch()), [0; 0], "one batch at a time");
        reporter.rewind();
        assert_eq!(numbers(reporter.next_batch()), [1, 2, 3]);
        reporter.acknowledge(2);
        assert_eq!(numbers(reporter.next_batch()), [0; 0], "3 is still under way");
        reporter.acknowledge(3);
        assert_eq!(reporter.waiting(), 0);
    }

    #[test]
    fn the_oldest_samples_go_first() {
        let mut reporter = Reporter::new(3);
        (0..5).for_each(|_| reporter.keep(sample()));
        assert_eq!(numbers(reporter.next_batch()), [3, 4, 5]);
        assert_eq!(reporter.dropped, 2);
        reporter.acknowledge(4);
        assert_eq!(reporter.dropped, 0);
    }

    #[derive(Debug, Clone)]
    enum Event {
        Sampled,
        Sent { arrives: bool, acknowledged: bool },
        Reconnected,
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            3 => Just(Event::Sampled),
            3 => (any::<bool>(), any::<bool>()).prop_map(|(arrives, acknowledged)| Event::Sent { arrives, acknowledged }),
            1 => Just(Event::Reconnected),
        ];
        prop::collection::vec(event, 0..200)
    }

    proptest! {
        /// With room enough, every sample arrives, in order, whatever gets lost on the way.
        #[test]
        fn nothing_is_lost(events in events()) {
            let mut reporter = Reporter::new(1000);
            let mut stored = 0;
            let mut taken = 0;
            let mut deliver = |reporter: &mut Reporter, arrives: bool, acknowledged: bool| {
                let Some(batch) = reporter.next_batch() else { return };
                if arrives {
                    for sample in &batch.samples {
                        if sample.seq > stored {
                            assert_eq!(sample.seq, stored + 1);
                            stored = sample.seq;
                        }
                    }
                    if acknowledged {
                        reporter.acknowledge(stored);
                    }
                }
            };
            for event in events {
                match event {
                    Event::Sampled => { reporter.keep(sample()); taken += 1; }
                    Event::Sent { arrives, acknowledged } => deliver(&mut reporter, arrives, acknowledged),
                    Event::Reconnected => reporter.rewind(),
                }
            }
            reporter.rewind();
            while reporter.waiting() > 0 {
                deliver(&mut reporter, true, true);
            }
            prop_assert_eq!(stored, taken);
        }
    }
}
