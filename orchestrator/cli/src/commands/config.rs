//! `fogctl config`: which settings are in force, and where each came from.

use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::render::table::{Cell, Side, Table};
use crate::session::Session;

/// A setting. A token is never shown, only that there is one.
#[derive(Debug, Serialize)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) value: Option<String>,
    pub(crate) from: &'static str,
}

pub(super) fn run(session: &Session) -> Result<Exit, Failure> {
    session.result(&session.settings(), |paint| {
        let mut table = Table::new(&["setting", "value", "from"].map(|name| (name, Side::Left)));
        for setting in session.settings() {
            table.row(vec![
                Cell::from(setting.name),
                setting.value.as_deref().map_or_else(|| Cell::quiet("not set"), Cell::from),
                Cell::quiet(setting.from),
            ]);
        }
        table.render(paint, "")
    })?;
    Ok(Exit::Done)
}
