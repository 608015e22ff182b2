//! What agents report: checked, remembered, stored, told.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fog_api::agent::{Hello, Sample};
use fog_api::event::Event;
use fog_core::availability::{Availability, availability};
use jiff::{SignedDuration, Timestamp};

use crate::app::{App, Service};
use crate::clock;
use crate::fleet::{Change, NodeView, Watch};
use crate::snapshot;
use crate::store::{Class, NodeOrder, StoreError, StoredNode};

/// Nodes that listeners are told of in a second, because of a sample; changes are told at once.
const TOLD_PER_S: i64 = 500;

/// More samples of a node than this are not kept in memory.
const MOST_SAMPLES: f64 = 10_000.0;

/// An agent introduced itself.
pub async fn hello(app: &Service, hello: &Hello) -> Result<(), StoreError> {
    let node = StoredNode {
        name: hello.node.clone(),
        agent_version: hello.agent_version.clone(),
        transfer_address: hello.transfer_address.clone(),
        facts: hello.facts.clone(),
        heartbeat_at: None,
        order: NodeOrder::default(), // what is known already stays
    };
    // After a restart every agent comes back within seconds, and nearly all say what they said before.
    let known = app.fleet().nodes.get(&hello.node).is_some_and(|view| view.stored.same_as(&node));
    if !known {
        app.store.save_node(hello, clock::now()).await?;
        app.fleet().hello(node);
    }
    tell_node(app, &hello.node);
    Ok(())
}

/// Samples of a node arrived. Returns the highest sequence number that is stored.
pub async fn samples(
    app: &Service,
    class: Class,
    node: &str,
    mut samples: Vec<Sample>,
) -> Result<Option<u64>, StoreError> {
    let begin = Instant::now();
    samples.iter_mut().for_each(bound);
    let Some(up_to) = samples.iter().map(|sample| sample.seq).max() else { return Ok(None) };
    let now = clock::now();
    if let Some(newest) = samples.last() {
        app.metrics.lag.observe(now.duration_since(newest.at).as_secs_f64().max(0.0));
    }
    let (count, values) = (samples.len() as u64, samples.iter().map(values).sum());
    let rows = app.store.rows(&samples, now);
    let watch = watch(&app.policy.get().policy);
    // Before the store: however long that takes, the node was heard.
    let changes = app.fleet().heartbeat(node, samples, watch, now);
    let stored = app.store.save_samples(class, node, rows, changes.iter().map(Change::row).collect(), now).await;
    if let Err(error) = stored {
        app.fleet().not_stored(changes);
        return Err(error);
    }
    app.fleet().stored(node, &changes, now);
    app.metrics.ingest.observe(begin.elapsed().as_secs_f64());
    app.metrics.samples.inc_by(count);
    app.metrics.values.inc_by(values);
    if changes.is_empty() {
        tell_sample(app, node, now);
    } else {
        tell_node(app, node);
    }
    for change in changes {
        match change {
            Change::Claimed(row, _) => {
                tracing::info!(workload = row.workload, node, epoch = row.epoch, "found a workload");
            }
            Change::Released(row, _) => {
                tracing::info!(workload = row.workload, node, "the workload is gone");
                app.store.forget_limits(&row.workload).await?;
            }
        }
    }
    Ok(Some(up_to))
}

/// How many measured values a sample holds.
fn values(sample: &Sample) -> u64 {
    let own = 7 + 3 * u64::from(sample.pressure.is_some()) + u64::from(sample.temperature_c.is_some());
    let workloads = sample.workloads.as_ref().map_or(0, Vec::len) * 2;
    own + (workloads + sample.links.len() * 2) as u64
}

/// How many samples a decision may look back on.
fn watch(policy: &fog_core::Policy) -> Watch {
    let sustained = usize::try_from(policy.sampling.window).unwrap_or(usize::MAX);
    let outwaits = (policy.burst.wait_s / policy.sampling.interval_s).ceil().clamp(0.0, MOST_SAMPLES);
    Watch { window: sustained.max(outwaits as usize), hot: policy.overload.cpu.start }
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

/// Tells listeners what a sample said, unless the cluster is so large that they would drown in samples.
fn tell_sample(app: &Service, node: &str, now: Timestamp) {
    if !app.events.heard() {
        return;
    }
    {
        let mut fleet = app.fleet();
        let pause = SignedDuration::from_millis(fleet.nodes.len() as i64 * 1000 / TOLD_PER_S);
        let Some(view) = fleet.nodes.get_mut(node) else { return };
        if view.told_at.is_some_and(|told_at| now.duration_since(told_at) < pause) {
            return;
        }
        view.told_at = Some(now);
    }
    tell_node(app, node);
}

/// Tells listeners a node's newest state and that of its workloads.
pub fn tell_node(app: &Service, node: &str) {
    if !app.events.heard() {
        return;
    }
    let now = clock::now();
    let policy = app.policy.get();
    let connected = app.agents.boot(node).is_some();
    let (view, workloads) = {
        let fleet = app.fleet();
        let view = snapshot::node(&fleet, node, &policy.policy, connected, now);
        (view, snapshot::workloads(&fleet, Some(node), &policy.policy))
    };
    if let Some(node) = view {
        app.events.tell(Event::Node { node });
    }
    for workload in workloads {
        app.events.tell(Event::Workload { workload });
    }
}
