//! The policy file: its default, its schema, and what it says to a person who made a mistake.

use std::path::{Path, PathBuf};

use fog_core::Policy;

fn config(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config").join(file)
}

fn read(file: &str) -> String {
    std::fs::read_to_string(config(file)).unwrap_or_default()
}

#[test]
fn the_shipped_policy_is_the_default_and_complete() {
    let text = read("policy.toml");
    assert_eq!(Policy::parse(&text, "config/policy.toml"), Ok(Policy::default()));
    assert_eq!(Policy::parse("", ""), Ok(Policy::default()));

    let written: toml::Table = toml::from_str(&text).expect("toml");
    let complete = toml::Table::try_from(Policy::default()).expect("toml");
    assert_eq!(written, complete, "config/policy.toml must name every field");
}

#[test]
fn the_schema_is_fresh() {
    let schema = schemars::schema_for!(Policy);
    let fresh = serde_json::to_string_pretty(&schema).expect("json") + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(config("policy.schema.json"), &fresh).expect("written");
    }
    assert!(
        read("policy.schema.json") == fresh,
        "config/policy.schema.json is stale: run `UPDATE_SCHEMA=1 cargo test -p fog-core schema` and commit it"
    );
}

/// What a person reads.
fn complaint(text: &str) -> String {
    Policy::parse(text, "policy.toml").expect_err(text).to_string()
}

#[test]
fn a_mistake_is_shown_where_it_is() {
    for (text, expected) in [
        (
            "# mine\n[overload]\ncpu = { strat = 0.9, done = 0.7 }\n",
            "policy.toml:3:9: overload.cpu.strat: this field does not exist; did you mean \"start\"? Expected one of: start, done",
        ),
        (
            "[overlaod.cpu]\nstart = 0.9\n",
            "policy.toml:1:2: overlaod: this field does not exist; did you mean \"overload\"? Expected one of: autonomy, \
             strategy, max_downtime_ms, min_gain, mode, balance, pack, follow, burst, cost, resize, overload, sampling, headroom, weights, delay, cooldown, concurrency, heartbeat, files, constraints, windows",
        ),
        (
            "[weights]\nzebra = 1\n",
            "policy.toml:2:1: weights.zebra: this field does not exist; expected one of: cpu, delay, distance, memory, \
             run_queue, pressure, temperature, capability",
        ),
        (
            "autonomy = \"automatc\"\n",
            "policy.toml:1:12: autonomy: \"automatc\" is not one of the words for it; did you mean \"automatic\"? \
             Expected one of: \"manual\", \"confirm\", \"automatic\"",
        ),
        (
            "min_gain = 0.1\n\n  max_downtime_ms = \"fast\"\n",
            "policy.toml:3:21: max_downtime_ms: invalid type: string \"fast\"; expected a whole number of 0 or more",
        ),
        (
            "[concurrency]\nper_node = -1\n",
            "policy.toml:2:12: concurrency.per_node: invalid value: integer `-1`; expected a whole number of 0 or more",
        ),
        (
            "[overload]\ncpu = { start = 0.9 }\n",
            "policy.toml:2:7: overload.cpu.done: it is missing; add `done = …` here",
        ),
        (
            "[overload]\ncpu = 0.9\n",
            "policy.toml:2:7: overload.cpu: invalid type: floating point `0.9`; expected a table, e.g. { start = 0.8, done = 0.7 }",
        ),
    ] {
        assert_eq!(complaint(text), expected);
    }
    let not_toml = complaint("min_gain = 0.1\nfoo bar\n");
    assert!(not_toml.starts_with("policy.toml:2:"), "{not_toml}");
    assert!(not_toml.contains("this is not TOML"), "{not_toml}");
}

#[test]
fn a_contradiction_is_refused_with_every_field_that_has_one() {
    for (text, expected) in [
        (
            "[overload]\ncpu = { start = 0.7, done = 0.8 }\n",
            "policy.toml:2:22: overload.cpu.done: 0.8 is not below overload.cpu.start (0.7): a node would be overloaded \
             and relieved at once, and workloads would go to and fro; lower it, or raise overload.cpu.start\n\
             policy.toml: headroom.cpu: a destination may be filled to 0.70, which is not below overload.cpu.start (0.7): \
             it would be the next hot node; raise it above 0.30, or raise overload.cpu.start",
        ),
        (
            "[weights]\ncpu = -1\ndelay = nan\n",
            "policy.toml:2:1: weights.cpu: -1 is out of range; give a number from 0 to 1000000\n\
             policy.toml:3:1: weights.delay: NaN is out of range; give a number from 0 to 1000000",
        ),
        (
            "[weights]\ncpu=0\ndelay=0\ndistance=0\nmemory=0\nrun_queue=0\npressure=0\ntemperature=0\ncapability=0\n",
            "policy.toml:1:2: weights: all of them are 0: nothing would tell a good node from a bad one; raise at least one",
        ),
        (
            "[heartbeat]\nsuspect_s = 30\n",
            "policy.toml:1:2: heartbeat.offline_s: 15 is not above heartbeat.suspect_s (30); raise it, or lower heartbeat.suspect_s",
        ),
        (
            "[[constraints]]\nname = \"a\"\ntogether = \"node\"\n[[constraints]]\nname = \"b\"\napart = \"site\"\nat_most = 0\n\
             [[windows]]\nname = \"w\"\nfrom = \"22\"\nuntil = \"04:00\"\neffect = \"freeze\"\n",
            "policy.toml:7:1: constraints[1].at_most: 0 is out of range; give a whole number from 1 to 1000000\n\
             policy.toml:10:1: windows[0].from: \"22\" is no time of day; give HH:MM in UTC, e.g. \"22:00\"",
        ),
        (
            "[[constraints]]\nname = \"a\"\ntogether = \"node\"\n[[constraints]]\nname = \"b\"\napart = \"node\"\n",
            "policy.toml:5:1: constraints[1].name: it contradicts \"a\": one wants workloads together that the \
             other wants apart; remove one of the two, or set hard = false",
        ),
        (
            "[sampling]\nwindow = 0\ninterval_s = inf\n",
            "policy.toml:3:1: sampling.interval_s: inf is out of range; give a number above 0 and at most 3600\n\
             policy.toml:2:1: sampling.window: 0 is out of range; give a whole number from 1 to 1000",
        ),
    ] {
        // A field that is not in the file is shown at its table, or without a place if that isn't there either.
        assert_eq!(complaint(text), expected);
    }
}
