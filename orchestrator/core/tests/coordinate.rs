//! Network coordinates: a few measurements for each node tell the way between any two.
#![allow(clippy::unwrap_used, reason = "tests")]

use fog_core::coordinate::{Coordinate, DIMENSIONS};
use proptest::prelude::*;

/// Where a node really is: on a map in milliseconds, with its last mile.
type Place = (f64, f64, f64);

fn rtt(a: Place, b: Place) -> f64 {
    (a.0 - b.0).hypot(a.1 - b.1) + a.2 + b.2
}

fn direction(seed: usize) -> [f64; DIMENSIONS] {
    std::array::from_fn(|at| ((seed * 31 + at * 17) % 101) as f64 / 50.0 - 1.0)
}

/// Every node measures the nodes 1, 2, 3, 5, 8, ... places further, round after round.
fn learn(places: &[Place], rounds: usize) -> Vec<Coordinate> {
    let mut known = vec![Coordinate::default(); places.len()];
    for _ in 0..rounds {
        for node in 0..places.len() {
            for step in [1, 2, 3, 5, 8, 13, 21, 34, 55, 89].into_iter().filter(|step| *step < places.len()) {
                let peer = (node + step) % places.len();
                known[node] =
                    known[node].measured(&known[peer], rtt(places[node], places[peer]), direction(node * 1009 + peer));
            }
        }
    }
    known
}

/// Errors over all pairs, relative to what is real but at least to 5 ms, sorted.
fn errors(places: &[Place], known: &[Coordinate]) -> Vec<f64> {
    let mut errors = Vec::new();
    for a in 0..places.len() {
        for b in 0..a {
            let real = rtt(places[a], places[b]);
            errors.push((known[a].rtt_ms(&known[b]) - real).abs() / real.max(5.0));
        }
    }
    errors.sort_by(f64::total_cmp);
    errors
}

/// Five sites of twenty nodes, some of them behind slow last miles.
fn sites() -> Vec<Place> {
    (0..100)
        .map(|node| {
            let (site, within) = (node % 5, node / 5);
            let (x, y) = [(0.0, 0.0), (20.0, 5.0), (80.0, 10.0), (30.0, 60.0), (5.0, 25.0)][site];
            (x + 0.05 * within as f64, y, if within % 7 == 0 { 15.0 } else { 0.3 })
        })
        .collect()
}

#[test]
fn a_hundred_nodes_in_five_sites_are_known_from_ten_peers_each() {
    let places = sites();
    let known = learn(&places, 60);
    let errors = errors(&places, &known);
    let at = |share: f64| errors[(errors.len() as f64 * share) as usize];
    assert!(at(0.5) < 0.05, "median error {}", at(0.5));
    assert!(at(0.9) < 0.15, "90 % error {}", at(0.9));
    let sure = known.iter().filter(|coordinate| coordinate.is_known()).count();
    assert!(sure >= 95, "{sure} of 100");
}

#[test]
fn a_node_that_has_measured_nothing_is_not_known() {
    assert!(!Coordinate::default().is_known());
}

#[test]
fn a_node_that_moves_is_found_again() {
    let mut places = sites();
    let known = learn(&places, 60);
    places[7] = (200.0, 0.0, 0.3);
    let mut moved = known.clone();
    for round in 0..200 {
        for step in [1, 2, 4, 8, 16, 32, 64] {
            let peer = (7 + step) % 100;
            moved[7] = moved[7].measured(&moved[peer], rtt(places[7], places[peer]), direction(round));
        }
    }
    let real = rtt(places[7], places[50]);
    let told = moved[7].rtt_ms(&moved[50]);
    assert!((told - real).abs() / real < 0.35, "{told} instead of {real}");
}

proptest! {
    #[test]
    fn whatever_is_measured_the_coordinate_stays_usable(
        measured in prop::collection::vec((any::<f64>(), 0_usize..5), 1..200)
    ) {
        let mut nodes = [Coordinate::default(); 5];
        for (at, (rtt_ms, peer)) in measured.into_iter().enumerate() {
            let other = nodes[peer];
            nodes[0] = nodes[0].measured(&other, rtt_ms, direction(at));
            let expected = nodes[0].rtt_ms(&nodes[1]);
            prop_assert!(expected.is_finite() && expected > 0.0);
            prop_assert!((0.0..=1.5).contains(&nodes[0].error));
            prop_assert!(nodes[0].height > 0.0);
        }
    }

    #[test]
    fn the_way_there_is_as_long_as_the_way_back(
        rtts in prop::collection::vec(0.1_f64..500.0, 10..50)
    ) {
        let mut nodes = [Coordinate::default(); 3];
        for (at, rtt_ms) in rtts.iter().enumerate() {
            let (node, peer) = (at % 3, (at + 1) % 3);
            nodes[node] = nodes[node].measured(&nodes[peer], *rtt_ms, direction(at));
        }
        prop_assert_eq!(nodes[0].rtt_ms(&nodes[1]), nodes[1].rtt_ms(&nodes[0]));
    }

    #[test]
    fn two_nodes_alone_learn_the_way_between_them(rtt_ms in 0.2_f64..1000.0) {
        let mut nodes = [Coordinate::default(); 2];
        for round in 0..200 {
            nodes[round % 2] = nodes[round % 2].measured(&nodes[(round + 1) % 2], rtt_ms, direction(round));
        }
        let told = nodes[0].rtt_ms(&nodes[1]);
        prop_assert!((told - rtt_ms).abs() / rtt_ms < 0.05, "{} instead of {}", told, rtt_ms);
    }
}
