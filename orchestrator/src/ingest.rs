//! What agents report: checked, remembered, stored, told.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fog_api::agent::{Heartbeat, Hello, Sample};
use fog_api::event::Event;
use fog_core::availability::{Availability, availability};
use uuid::Uuid;

use crate::app::{App, Service};
use crate::clock;
use crate::fleet::{Change, NodeView};
use crate::snapshot;
use crate::store::{NodeOrder, StoreError, StoredNode};

/// More samples of a node than this are not kept in memory.
const MOST_SAMPLES: f64 = 10_000.0;

/// An agent introduced itself.
pub async fn hello(app: &Service, hello: &Hello) -> Result<(), StoreError> {
    app.store.save_node(hello, clock::now()).await?;
    app.fleet().hello(StoredNode {
        name: hello.node.clone(),
        agent_version: hello.agent_version.clone(),
        transfer_address: hello.transfer_address.clone(),
        facts: hello.facts.clone(),
        heartbeat_at: None,
        order: NodeOrder::default(), // what is known already stays
    });
    tell_node(app, &hello.node);
    Ok(())
}

/// Samples arrived. Returns the highest sequence number that is stored.
pub async fn heartbeat(app: &Service, node: &str, boot: Uuid, heartbeat: Heartbeat) -> Result<Option<u64>, StoreError> {
    let begin = Instant::now();
    let mut samples = heartbeat.samples;
    samples.iter_mut().for_each(bound);
    let Some(up_to) = samples.iter().map(|sample| sample.seq).max() else { return Ok(None) };
    let now = clock::now();
    if let Some(newest) = samples.last() {
        app.metrics.lag.observe(now.duration_since(newest.at).as_secs_f64().max(0.0));
    }
    app.store.save_samples(node, boot, &samples, now).await?;
    app.metrics.ingest.observe(begin.elapsed().as_secs_f64());
    app.metrics.samples.inc_by(samples.len() as u64);
    app.metrics.values.inc_by(samples.iter().map(values).sum());
    let window = kept(&app.policy.get().policy);
    let changes = app.fleet().heartbeat(node, &samples, window, now);
    for change in changes {
        match change {
            Change::Claimed(row) => {
                tracing::info!(workload = row.workload, node, epoch = row.epoch, "found a workload");
                app.store.claim(&row.workload, node, row.epoch, now).await?;
            }
            Change::Released(row) => {
                tracing::info!(workload = row.workload, node, "the workload is gone");
                app.store.release(&row.workload, node, row.epoch, now).await?;
                app.store.forget_limits(&row.workload).await?;
            }
        }
    }
    tell_node(app, node);
    Ok(Some(up_to))
}

/// How many measured values a sample holds.
fn values(sample: &Sample) -> u64 {
    let own = 7 + 3 * u64::from(sample.pressure.is_some()) + u64::from(sample.temperature_c.is_some());
    let workloads = sample.workloads.as_ref().map_or(0, Vec::len) * 2;
    own + (workloads + sample.links.len() * 2) as u64
}

/// How many samples a decision may look back on.
fn kept(policy: &fog_core::Policy) -> usize {
    let sustained = usize::try_from(policy.sampling.window).unwrap_or(usize::MAX);
    let outwaits = (policy.burst.wait_s / policy.sampling.interval_s).ceil().clamp(0.0, MOST_SAMPLES);
    sustained.max(outwaits as usize)
}

/// Agents measure; a rounding above 1 or a broken sensor must not reach a decision.
fn bound(sample: &mut Sample) {
    let fraction = |value: &mut f64| *value = if value.is_finite() { value.clamp(0.0, 1.0) } else { 0.0 };
    let amount = |value: &mut f64| *value = if value.is_finite() { value.max(0.0) } else { 0.0 };
    fraction(&mut sample.cpu);
    fraction(&mut sample.memory);
    fraction(&mut sample.disk);
    if let Some(pressure) = &mut sample.pressure {
        fraction(&mut pressure.cpu);
        fraction(&mut pressure.memory);
        fraction(&mut pressure.io);
    }
    amount(&mut sample.run_queue);
    amount(&mut sample.load1);
    amount(&mut sample.network_received_bytes_per_s);
    amount(&mut sample.network_sent_bytes_per_s);
    sample.temperature_c = sample.temperature_c.filter(|celsius| (-100.0..=200.0).contains(celsius));
    for link in &mut sample.links {
        fraction(&mut link.loss);
        link.rtt_ms = link.rtt_ms.filter(|ms| ms.is_finite() && *ms >= 0.0);
        link.bandwidth_mbps = link.bandwidth_mbps.filter(|mbps| mbps.is_finite() && *mbps > 0.0);
    }
    for workload in sample.workloads.iter_mut().flatten() {
        amount(&mut workload.cpus);
        workload.cpus_limit = workload.cpus_limit.filter(|cpus| cpus.is_finite() && *cpus > 0.0);
        workload.memory_limit_bytes = workload.memory_limit_bytes.filter(|bytes| *bytes > 0);
    }
}

/// Tells listeners when silence makes a node suspect or offline, until the shutdown.
pub async fn watch_silence(app: App) {
    let mut told = BTreeMap::new();
    loop {
        let period = Duration::from_secs_f64(app.policy.get().policy.heartbeat.interval_s.clamp(0.1, 60.0));
        tokio::select! {
            () = tokio::time::sleep(period) => {}
            () = app.shutdown.cancelled() => return,
        }
        let policy = app.policy.get();
        let now = clock::now();
        let availability: BTreeMap<String, Availability> = {
            let fleet = app.fleet();
            let of = |view: &NodeView| availability(view.stored.heartbeat_at, now, &policy.policy.heartbeat);
            fleet.nodes.iter().map(|(name, view)| (name.clone(), of(view))).collect()
        };
        let mut changed = Vec::new();
        for (node, availability) in &availability {
            if told.get(node).is_some_and(|before| before != availability) {
                tracing::info!(node, "the node is {availability}");
                tell_node(&app, node);
                let availability = snapshot::availability(*availability);
                changed.push(Event::Availability { name: node.clone(), availability });
            }
        }
        if !changed.is_empty()
            && let Err(error) = app.store.record_events(&changed, now).await
        {
            tracing::error!("cannot store who is there: {error}");
        }
        told = availability;
    }
}

/// Tells listeners a node's newest state and that of its workloads.
pub fn tell_node(app: &Service, node: &str) {
    let now = clock::now();
    let policy = app.policy.get();
    let connected = app.agents.boot(node).is_some();
    let (view, workloads) = {
        let fleet = app.fleet();
        let view = snapshot::node(&fleet, node, &policy.policy, connected, now);
        (view, snapshot::workloads(&fleet, Some(node)))
    };
    if let Some(node) = view {
        app.events.tell(Event::Node { node });
    }
    for workload in workloads {
        app.events.tell(Event::Workload { workload });
    }
}
