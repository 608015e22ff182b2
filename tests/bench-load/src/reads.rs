//! Reads of the API, as people and dashboards do them, and how long they take.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;

use crate::agents;

/// Microseconds by kind of read.
pub type Latencies = BTreeMap<&'static str, Histogram<u64>>;

/// What came of the reads so far.
#[derive(Debug, Default)]
pub struct Reads {
    pub latencies: Latencies,
    /// Answers by status.
    pub answers: BTreeMap<u16, u64>,
    /// Of those with 429, how many said when to come again.
    pub with_retry_after: u64,
}

/// One read each `pause` by one reader, in turn, until it is dropped.
pub async fn run(
    http: reqwest::Client,
    url: String,
    nodes: usize,
    pause: Duration,
    reads: Arc<Mutex<Reads>>,
) -> Result<()> {
    let mut turn = 0_usize;
    loop {
        turn += 1;
        let number = turn * 7919 % nodes;
        let (kind, path) = match turn % 5 {
            0 => ("nodes", "/v1/nodes?limit=50".to_owned()),
            1 => ("workloads", "/v1/workloads?limit=50".to_owned()),
            2 => ("node", format!("/v1/nodes/{}", agents::name(number))),
            3 => ("workload", format!("/v1/workloads/work-{number:05}-3")),
            _ => ("migrations", "/v1/migrations?limit=50".to_owned()),
        };
        let begin = Instant::now();
        let answer = http.get(format!("{url}{path}")).send().await;
        if let Ok(answer) = answer {
            let (status, again) = (answer.status().as_u16(), answer.headers().contains_key("retry-after"));
            let _ = answer.bytes().await;
            let took = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
            let mut reads = reads.lock().unwrap_or_else(PoisonError::into_inner);
            *reads.answers.entry(status).or_default() += 1;
            reads.with_retry_after += u64::from(status == 429 && again);
            if status != 429 {
                let empty = || {
                    Histogram::new_with_bounds(1, 120_000_000, 3).unwrap_or_else(|error| panic!("3 digits: {error}"))
                };
                reads.latencies.entry(kind).or_insert_with(empty).saturating_record(took);
            }
        }
        tokio::time::sleep(pause).await;
    }
}
