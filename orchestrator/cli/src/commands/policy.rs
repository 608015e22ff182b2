//! `fogctl policy`, `fogctl policy check`

use std::path::Path;

use serde_json::Value;

use crate::exit::{Exit, Failure};
use crate::render::table::{Cell, Side, Table};
use crate::render::text::clean;
use crate::session::Session;

pub(super) async fn run(session: &Session) -> Result<Exit, Failure> {
    let view = session.reader()?.policy().await?;
    session.result(&view, |paint| {
        let from = view.file.as_deref().map_or_else(|| "the built-in default".to_owned(), clean);
        let mut table = Table::new(&[("setting", Side::Left), ("value", Side::Right)]);
        flatten("", &view.policy, &mut table);
        format!("{}\n{}", paint.head(&format!("Policy version {}, {from}", view.version)), table.render(paint, "  "))
    })?;
    Ok(Exit::Done)
}

pub(super) fn check(session: &Session, file: &Path) -> Result<Exit, Failure> {
    let policy = super::offline::policy(file)?;
    session.result(&policy, |_| format!("{} is a valid policy.\n", clean(&file.display().to_string())))?;
    Ok(Exit::Done)
}

/// `overload.cpu.start  0.8`: the names under which an error or a decision speaks of a setting.
fn flatten(path: &str, value: &Value, table: &mut Table) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(&path, value, table);
            }
        }
        Value::String(text) => table.row(vec![Cell::from(path), Cell::from(text)]),
        Value::Null => table.row(vec![Cell::from(path), Cell::quiet("not set")]),
        other => table.row(vec![Cell::from(path), Cell::from(other.to_string())]),
    }
}
