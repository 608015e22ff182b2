//! From text to a policy, and from an error to the place in the text.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::{Policy, PolicyError};
use crate::problem::{Place, Problem, nearest};

pub(super) fn parse(text: &str, file_name: &str) -> Result<Policy, PolicyError> {
    let refuse = |problems| PolicyError { file: file_name.to_owned(), problems };
    let entries = match DeTable::parse(text) {
        Ok(table) => {
            let mut entries = Vec::new();
            collect("", table.get_ref(), &mut entries);
            entries
        }
        Err(error) => {
            return Err(refuse(vec![Problem {
                place: error.span().map(|span| place(text, span.start)),
                field: String::new(),
                reason: format!("this is not TOML: {}", plain(error.message())),
                remedy: "correct the syntax here (https://toml.io)".to_owned(),
            }]));
        }
    };
    let policy: Policy = toml::from_str(text).map_err(|error| refuse(vec![explain(text, &entries, &error)]))?;
    policy.check().map_err(|error| {
        let mut problems = error.problems;
        for problem in &mut problems {
            problem.place = find(&entries, &problem.field).map(|entry| place(text, entry.key.start));
        }
        refuse(problems)
    })?;
    Ok(policy)
}

/// A key of the file.
struct Entry {
    path: String,
    key: Range<usize>,
    value: Range<usize>,
}

fn collect(parent: &str, table: &DeTable<'_>, entries: &mut Vec<Entry>) {
    for (key, value) in table {
        let path = join(parent, key.get_ref());
        match value.get_ref() {
            DeValue::Table(inner) => collect(&path, inner, entries),
            DeValue::Array(list) => {
                for (index, item) in list.iter().enumerate() {
                    if let DeValue::Table(inner) = item.get_ref() {
                        collect(&format!("{path}[{index}]"), inner, entries);
                    }
                }
            }
            _ => {}
        }
        entries.push(Entry { path, key: key.span(), value: value.span() });
    }
}

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
}

/// The entry of that path, or of its nearest ancestor that is in the file.
fn find<'a>(entries: &'a [Entry], path: &str) -> Option<&'a Entry> {
    let mut path = path;
    loop {
        if let Some(entry) = entries.iter().find(|entry| entry.path == path) {
            return Some(entry);
        }
        path = path.rsplit_once('.')?.0;
    }
}

/// Says what serde says, in terms of the file.
fn explain(text: &str, entries: &[Entry], error: &toml::de::Error) -> Problem {
    let at = error.span().unwrap_or(0..0);
    let key = entries.iter().find(|entry| entry.key == at);
    let around = entries
        .iter()
        .filter(|entry| entry.value.contains(&at.start) || entry.key.contains(&at.start))
        .min_by_key(|entry| entry.value.len());
    let path = key.or(around).map(|entry| entry.path.clone()).unwrap_or_default();
    let message = error.message();
    let mut names = message.split('`').skip(1).step_by(2);
    let (field, reason, remedy) = if message.starts_with("unknown field") {
        let wrong = names.next().unwrap_or_default();
        let known: Vec<&str> = names.collect();
        let remedy = match nearest(wrong, known.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"? Expected one of: {}", known.join(", ")),
            None => format!("expected one of: {}", known.join(", ")),
        };
        (path, "this field does not exist".to_owned(), remedy)
    } else if message.starts_with("unknown variant") {
        let wrong = names.next().unwrap_or_default();
        let known: Vec<&str> = names.collect();
        let words = known.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ");
        let remedy = match nearest(wrong, known.iter().copied()) {
            Some(near) => format!("did you mean {near:?}? Expected one of: {words}"),
            None => format!("expected one of: {words}"),
        };
        (path, format!("{wrong:?} is not one of the words for it"), remedy)
    } else if message.starts_with("missing field") {
        let missing = names.next().unwrap_or_default();
        (join(&path, missing), "it is missing".to_owned(), format!("add `{missing} = …` here"))
    } else if let Some((reason, expected)) = message.split_once(", expected ") {
        (path, plain(reason), format!("expected {}", words(expected)))
    } else {
        (path, plain(message), "see config/policy.toml for what belongs here".to_owned())
    };
    let place = error.span().map(|span| place(text, span.start));
    Problem { place, field, reason, remedy }
}

/// Rust's words for types mean nothing to the author of a policy.
fn words(expected: &str) -> &str {
    match expected {
        "f64" => "a number",
        "u32" | "u64" => "a whole number of 0 or more",
        other if other.starts_with("struct ") => "a table, e.g. { start = 0.8, done = 0.7 }",
        other => other,
    }
}

/// An error on one line.
fn plain(message: &str) -> String {
    message.trim().replace('\n', ", ")
}

fn place(text: &str, offset: usize) -> Place {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Place { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
}
