//! `fogctl audit`

use fog_api::audit::AuditEntry;
use jiff::tz::TimeZone;

use crate::exit::{Exit, Failure};
use crate::render::paint::Tone;
use crate::render::table::{Cell, Side, Table};
use crate::render::units;
use crate::session::Session;

pub(super) async fn run(session: &Session, limit: u32) -> Result<Exit, Failure> {
    let entries = session.reader()?.audit(Some(limit)).await?;
    session.result(&entries, |paint| table(&entries.items, &TimeZone::system()).render(paint, ""))?;
    if entries.items.is_empty() {
        eprintln!("Nobody has changed anything yet.");
    }
    Ok(Exit::Done)
}

fn table(entries: &[AuditEntry], zone: &TimeZone) -> Table {
    let columns = ["when", "who", "what", "path", "answer"].map(|name| (name, Side::Left));
    let mut table = Table::new(&columns);
    for entry in entries {
        let tone = if entry.status < 400 { Tone::Plain } else { Tone::Warning };
        let mut answer = entry.status.to_string();
        if let Some(problem) = &entry.problem {
            answer.push_str(&format!(" {problem}"));
        }
        if entry.dry_run {
            answer.push_str(", dry run");
        }
        table.row(vec![
            Cell::quiet(units::moment(entry.at, zone)),
            Cell::from(&entry.who),
            Cell::from(&entry.action),
            Cell::from(&entry.path),
            Cell::toned(answer, tone),
        ]);
    }
    table
}
