//! What samples take of the disk: the real store, fed for days of a clock that runs ahead, rolled up every ten minutes as the
//! service does.

use anyhow::Result;
use fog_api::agent::{Hello, NodeFacts, PROTOCOL, Pressure, Sample};
use fog_orchestrator::store::{Class, Store};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use uuid::Uuid;

const ROLL_UP: SignedDuration = SignedDuration::from_mins(10);

/// One day.
#[derive(Debug, Serialize)]
pub struct Day {
    day: u32,
    nodes: usize,
    interval_s: f64,
    /// Of the database, beside what an empty one takes, divided by the nodes.
    bytes_a_node: u64,
    /// More than the day before.
    grown_bytes_a_node: i64,
}

pub async fn run(nodes: usize, days: u32, interval_s: f64) -> Result<Vec<Day>> {
    let dir = tempfile::tempdir()?;
    let store = Store::open(&dir.path().join("fogshift.db")).await?;
    let interval = SignedDuration::try_from_secs_f64(interval_s)?;
    let begin = Timestamp::now() - SignedDuration::from_hours(24 * i64::from(days));
    for number in 0..nodes {
        store.save_node(&hello(number), begin).await?;
    }
    let empty = store.size().await?.database_bytes;
    let (mut result, mut now, mut before) = (Vec::new(), begin, 0_i64);
    for day in 1..=days {
        let end = begin + SignedDuration::from_hours(24 * i64::from(day));
        while now < end {
            let until = now + ROLL_UP;
            for number in 0..nodes {
                let mut samples = Vec::new();
                let mut at = now;
                while at < until {
                    samples.push(sample(number, at));
                    at += interval;
                }
                let rows = store.rows(&samples, until);
                store.save_samples(Class::Batch, &name(number), rows, Vec::new(), until).await?;
            }
            now = until;
            store.roll_up(0, nodes as i64 + 1, now).await?;
        }
        let size = store.size().await?.database_bytes.saturating_sub(empty) / nodes as u64;
        result.push(Day {
            day,
            nodes,
            interval_s,
            bytes_a_node: size,
            grown_bytes_a_node: size.cast_signed() - before,
        });
        before = size.cast_signed();
    }
    store.close().await;
    Ok(result)
}

fn name(number: usize) -> String {
    format!("node-{number:05}")
}

fn hello(number: usize) -> Hello {
    Hello {
        protocol: PROTOCOL,
        node: name(number),
        agent_version: "simulated".into(),
        boot: Uuid::nil(),
        transfer_address: "simulated:7710".into(),
        facts: NodeFacts::default(),
    }
}

fn sample(number: usize, at: Timestamp) -> Sample {
    let turn = at.as_second() / 5 + number as i64;
    let wave = (turn % 997) as f64 / 1000.0;
    Sample {
        seq: 1,
        at,
        cpu: 0.2 + 0.5 * wave,
        run_queue: (4.0 * wave).round(),
        load1: 4.0 * wave,
        memory: 0.4 + 0.1 * wave,
        pressure: Some(Pressure { cpu: 0.1 * wave, memory: 0.0, io: 0.02 }),
        disk: 0.3,
        network_received_bytes_per_s: 51_234.5 * wave,
        network_sent_bytes_per_s: 20_123.25 * wave,
        temperature_c: Some(50.0 + 10.0 * wave),
        workloads: None,
        links: Vec::new(),
    }
}
