//! Broken files: whatever is done to a good one, it is read, or refused with a field, a reason and a remedy. Nothing panics.

mod common;

use common::{now, thesis};
use fog_core::{Policy, Snapshot, plan};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

/// Every place in a document.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| places(value, &format!("{at}/{name}"), found)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| places(value, &format!("{at}/{index}"), found));
        }
        _ => {}
    }
}

fn nonsense() -> impl Strategy<Value = Value> {
    select(vec![
        json!(null),
        json!(-1),
        json!(0),
        json!(1.5),
        json!(1e308),
        json!(-1e308),
        json!(u64::MAX),
        json!(true),
        json!(""),
        json!("A"),
        json!("nobody"),
        json!("x".repeat(10_000)),
        json!([]),
        json!([[]]),
        json!({}),
        json!({"a": 1}),
        json!("9999-12-31T23:59:59Z"),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_broken_snapshot_is_refused_in_words(changes in proptest::collection::vec((any::<Index>(), nonsense()), 1..4)) {
        let mut document = serde_json::to_value(thesis()).expect("json");
        for (at, with) in changes {
            let mut found = Vec::new();
            places(&document, "", &mut found);
            let place = document.pointer_mut(&found[at.index(found.len())]);
            *place.expect("a place of the document") = with;
        }
        match serde_json::from_value::<Snapshot>(document) {
            Err(error) => prop_assert!(!error.to_string().is_empty()),
            Ok(snapshot) => {
                if let Err(refused) = snapshot.check() {
                    for problem in &refused.problems {
                        prop_assert!(!problem.field.is_empty() && !problem.reason.is_empty() && !problem.remedy.is_empty());
                    }
                }
                for mode in ["relieve", "balance", "pack", "follow"] {
                    let policy = Policy::parse(&format!("mode = \"{mode}\""), "").expect("a policy");
                    let _ = plan(&snapshot, &policy, now());
                }
            }
        }
    }

    #[test]
    fn a_broken_policy_is_refused_in_words(
        edits in proptest::collection::vec((any::<Index>(), select(vec!["", "\"", "[", "]", "=", "-", "9", "e", "nan", "\n", "{", "x", ".", "0"])), 1..5),
    ) {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/policy.toml");
        let text = std::fs::read_to_string(file).expect("config/policy.toml");
        // Only what is not a comment: there is no other way to break it.
        let mut text: String = text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
        for (at, with) in edits {
            let at = at.index(text.chars().count());
            let at = text.char_indices().nth(at).map_or(0, |(at, _)| at);
            let end = text[at..].chars().next().map_or(at, |c| at + c.len_utf8());
            text.replace_range(at..end, with);
        }
        if let Err(refused) = Policy::parse(&text, "policy.toml") {
            prop_assert!(!refused.problems.is_empty());
            for problem in &refused.problems {
                prop_assert!(!problem.reason.is_empty() && !problem.remedy.is_empty(), "{problem}");
            }
        }
    }
}
