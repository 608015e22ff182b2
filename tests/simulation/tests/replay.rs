//! A failure can be seen again: the line that it prints brings the same trace.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::Command;

fn fog_soak(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_fog-soak")).args(arguments).output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_same_seed_brings_the_same_trace() {
    let run = || fog_soak(&["one", "--seed", "7", "--hours", "1", "--tell"]);
    let (first, second) = (run(), run());
    assert!(first.0, "{}", first.1);
    assert_eq!(first, second);
    assert!(first.1.lines().count() > 100, "nothing happened: {}", first.1);
    let (_, other) = fog_soak(&["one", "--seed", "8", "--hours", "1", "--tell"]);
    assert_ne!(first.1, other);
}

#[test]
fn a_broken_promise_is_reported_with_the_line_that_brings_it_again() {
    let (kept, said) = fog_soak(&["soak", "--hours", "10", "--seed", "100", "--broken", "thaws-on-a-timer"]);
    assert!(!kept, "{said}");
    let line = said.lines().last().unwrap();
    let (_, again) = line.split_once("To see it again: ").unwrap();
    let arguments: Vec<&str> = again.split_once(" -- ").unwrap().1.split(' ').collect();
    let violation = said.lines().find(|line| line.contains("VIOLATION: ")).unwrap();
    let (kept, trace) = fog_soak(&arguments);
    assert!(!kept);
    assert!(trace.contains(violation), "{violation} is not in\n{trace}");
}
