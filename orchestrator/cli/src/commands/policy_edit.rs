//! `fogctl policy get`, `set`, `diff`, `history`, `rollback`: the running orchestrator's policy.

use std::io::Read;
use std::path::Path;

use fog_api::policy::{PolicyChange, PolicyRequest, PolicyView, RollbackRequest};
use jiff::tz::TimeZone;
use serde_json::Value;

use crate::exit::{Exit, Failure, where_and_what};
use crate::render::paint::{Paint, Tone};
use crate::render::table::{Cell, Side, Table};
use crate::render::text::clean;
use crate::render::units;
use crate::session::{Session, write};

/// The text goes out as it is, so that it can be edited and set again.
pub(super) async fn get(session: &Session, version: Option<u64>) -> Result<Exit, Failure> {
    let client = session.reader()?;
    let text = match version {
        None => {
            let view = client.policy().await?;
            if session.wants_json() {
                session.result(&view, |_| String::new())?;
                return Ok(Exit::Done);
            }
            view.text
        }
        Some(version) => {
            let past = client.policy_difference(version, None).await?;
            if session.wants_json() {
                session.result(&past, |_| String::new())?;
                return Ok(Exit::Done);
            }
            past.text
        }
    };
    write(&text)?;
    Ok(Exit::Done)
}

pub(super) async fn set(
    session: &Session,
    file: &Path,
    note: Option<String>,
    replaces: Option<u64>,
    dry_run: bool,
) -> Result<Exit, Failure> {
    let request = PolicyRequest { text: read(file)?, note };
    let client = session.writer()?;
    if dry_run {
        let check = client.check_policy(&request).await?;
        session.result(&check, |paint| {
            let mut out = String::new();
            for error in &check.errors {
                out.push_str(&format!("{}\n", paint.bad(&clean(&where_and_what(error)))));
            }
            if check.valid {
                out.push_str(&changes(&check.changes, paint));
            }
            out
        })?;
        return Ok(if check.valid { Exit::Done } else { Exit::Failed });
    }
    let replaces = match replaces {
        Some(version) => version,
        None => client.policy().await?.version,
    };
    in_force(session, &client.put_policy(&request, replaces).await?)
}

pub(super) async fn diff(session: &Session, version: Option<u64>, against: Option<u64>) -> Result<Exit, Failure> {
    let client = session.reader()?;
    let version = match version {
        Some(version) => version,
        None => client.policy().await?.version,
    };
    let difference = client.policy_difference(version, against).await?;
    session.result(&difference, |paint| {
        let other = difference.against.map_or_else(|| "the built-in default".to_owned(), |n| format!("version {n}"));
        format!(
            "{}\n{}",
            paint.head(&format!("Version {version} against {other}")),
            changes(&difference.changes, paint)
        )
    })?;
    Ok(Exit::Done)
}

pub(super) async fn history(session: &Session) -> Result<Exit, Failure> {
    let versions = session.reader()?.policy_history().await?;
    session.result(&versions, |paint| {
        let mut table = Table::new(&[
            ("version", Side::Right),
            ("since", Side::Left),
            ("by", Side::Left),
            ("from", Side::Left),
            ("why", Side::Left),
        ]);
        for version in &versions.items {
            table.row(vec![
                Cell::from(version.version.to_string()),
                Cell::quiet(units::moment(version.at, &TimeZone::system())),
                Cell::from(&version.by),
                Cell::from(format!("{:?}", version.source).to_lowercase()),
                Cell::from(version.note.as_deref().unwrap_or("")),
            ]);
        }
        table.render(paint, "")
    })?;
    Ok(Exit::Done)
}

pub(super) async fn rollback(
    session: &Session,
    version: u64,
    note: Option<String>,
    dry_run: bool,
) -> Result<Exit, Failure> {
    let client = session.writer()?;
    let replaces = client.policy().await?.version;
    if dry_run {
        return diff(session, Some(version), Some(replaces)).await;
    }
    in_force(session, &client.roll_back_policy(&RollbackRequest { version, note }, replaces).await?)
}

fn in_force(session: &Session, view: &PolicyView) -> Result<Exit, Failure> {
    session.result(view, |_| format!("Version {} is in force.\n", view.version))?;
    Ok(Exit::Done)
}

fn read(file: &Path) -> Result<String, Failure> {
    let text = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    text.map_err(|error| {
        Failure::new(Exit::Usage, format!("cannot read the policy from {}: {error}", file.display()))
            .hint("Name a TOML file; `fogctl policy get > policy.toml` writes the one in force.")
    })
}

/// `overload.cpu.start  0.8 → 0.9`
fn changes(changes: &[PolicyChange], paint: Paint) -> String {
    if changes.is_empty() {
        return "Nothing changes.\n".to_owned();
    }
    let mut table = Table::new(&[("setting", Side::Left), ("before", Side::Right), ("after", Side::Right)]);
    for change in changes {
        table.row(vec![
            Cell::from(&change.field),
            Cell::quiet(value(&change.from)),
            Cell::toned(value(&change.to), Tone::Plain),
        ]);
    }
    table.render(paint, "")
}

fn value(value: &Value) -> String {
    match value {
        Value::Null => "not set".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_shows_both_values() {
        let change = PolicyChange { field: "overload.cpu.start".into(), from: 0.8.into(), to: Value::Null };
        let shown = changes(&[change], Paint::new(false));
        assert!(shown.contains("overload.cpu.start") && shown.contains("0.8") && shown.contains("not set"), "{shown}");
        assert_eq!(changes(&[], Paint::new(false)), "Nothing changes.\n");
    }
}
