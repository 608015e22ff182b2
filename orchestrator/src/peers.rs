//! Whom an agent measures: everybody in a small cluster, a few in a large one. From those few, network coordinates
//! (`fog_core::coordinate`) tell the delay between any two nodes; what is about to be moved to is measured first.

use std::collections::BTreeSet;
use std::time::Duration;

use fog_api::agent::{Peer, ToAgent};
use jiff::{SignedDuration, Timestamp};
use tokio::time::MissedTickBehavior;

use crate::app::{App, Service};
use crate::clock;
use crate::fleet::Fleet;

/// In a cluster of so many nodes everybody measures everybody.
const SMALL: usize = 24;
/// Every agent's list is looked at once in so many seconds.
const TURN_S: usize = 15;
/// So long a node that is about to be moved to is measured, and so long a move waits for it.
const WANTED: SignedDuration = SignedDuration::from_secs(120);
const PATIENCE: SignedDuration = SignedDuration::from_secs(10);

/// Whether everybody measures everybody.
pub fn is_small(fleet: &Fleet) -> bool {
    fleet.nodes.len() <= SMALL
}

/// The peers of a node: in the ring of all names those 1, 2, 3, 5, 8, ... places further, and those that are wanted. The
/// graph is connected and mixes near and far; with powers of two, names dealt out over five sites in turn would never
/// meet one of their own.
pub fn of(fleet: &Fleet, node: &str, now: Timestamp) -> Vec<Peer> {
    if is_small(fleet) {
        return fleet.nodes.values().filter(|view| view.stored.name != node).map(|view| view.peer()).collect();
    }
    let names = &fleet.names;
    let at = names.binary_search_by(|name| name.as_str().cmp(node)).unwrap_or_else(|at| at);
    let fibonacci = std::iter::successors(Some((1_usize, 2_usize)), |(a, b)| Some((*b, a.checked_add(*b)?)));
    let steps = fibonacci.map(|(step, _)| step).take_while(|step| *step < names.len());
    let mut chosen: BTreeSet<&str> =
        steps.filter_map(|step| names.get((at + step) % names.len())).map(String::as_str).collect();
    if let Some(view) = fleet.nodes.get(node) {
        chosen.extend(
            view.wanted.iter().filter(|(_, since)| now.duration_since(**since) < WANTED).map(|(name, _)| name.as_str()),
        );
    }
    chosen.remove(node);
    chosen.into_iter().filter_map(|name| fleet.nodes.get(name)).map(|view| view.peer()).collect()
}

/// Whether the way between two nodes is measured, or has been waited for long enough. If not, it is measured from now on.
pub fn is_measured(app: &Service, from: &str, to: &str) -> bool {
    let now = clock::now();
    let peers = {
        let mut fleet = app.fleet();
        if is_small(&fleet) || fleet.measured(from, to) || fleet.measured(to, from) {
            return true;
        }
        let Some(view) = fleet.nodes.get_mut(from) else { return true };
        view.wanted.retain(|_, since| now.duration_since(*since) < WANTED);
        if let Some(since) = view.wanted.get(to) {
            return now.duration_since(*since) >= PATIENCE;
        }
        view.wanted.insert(to.to_owned(), now);
        of(&fleet, from, now)
    };
    tracing::debug!(from, to, "measuring the way before the move");
    !app.agents.send(from, ToAgent::Peers { peers })
}

/// Tells agents whose peers have changed, a few of them each second, until the shutdown.
pub async fn keep_told(app: App) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next = 0;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = app.shutdown.cancelled() => return,
        }
        let now = clock::now();
        let lists: Vec<(String, Vec<Peer>)> = {
            let mut fleet = app.fleet();
            let (count, slice) = (fleet.names.len(), fleet.names.len() / TURN_S + 1);
            let names: Vec<String> = fleet.names.iter().skip(next).take(slice).cloned().collect();
            next = if next + slice >= count { 0 } else { next + slice };
            names.into_iter().filter_map(|name| fleet.new_peers(&name, now).map(|peers| (name, peers))).collect()
        };
        for (node, peers) in lists {
            app.agents.send(&node, ToAgent::Peers { peers });
        }
    }
}
