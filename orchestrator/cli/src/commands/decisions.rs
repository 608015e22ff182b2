//! `fogctl decisions`

use fog_api::decision::{Decision, Kind, Status};
use jiff::Timestamp;

use crate::exit::{Exit, Failure};
use crate::render::paint::Tone;
use crate::render::table::{Cell, Side, Table};
use crate::render::text::{clean, short, wrap};
use crate::render::units;
use crate::session::Session;

pub(super) async fn run(session: &Session, limit: u32) -> Result<Exit, Failure> {
    let decisions = session.reader()?.decisions(Some(limit)).await?;
    session.result(&decisions, |paint| {
        let mut out = table(&decisions.items, Timestamp::now()).render(paint, "");
        if let Some(latest) = decisions.items.first() {
            let title = format!("Latest: {}", clean(&latest.workload));
            out.push_str(&format!("\n{}\n  {}\n", paint.head(&title), wrap(&latest.reason, 96, "  ")));
        }
        out
    })?;
    let open = decisions.items.iter().filter(|decision| decision.status == Status::Proposed).count();
    if open > 0 {
        eprintln!("{open} wait for your word: fogctl approve NAME, or fogctl dismiss NAME.");
    }
    if decisions.items.is_empty() {
        eprintln!("Nothing has been decided yet.");
    }
    Ok(Exit::Done)
}

fn table(decisions: &[Decision], now: Timestamp) -> Table {
    let mut table = Table::new(&[
        ("workload", Side::Left),
        ("from", Side::Left),
        ("to", Side::Left),
        ("score", Side::Right),
        ("candidates", Side::Right),
        ("asked by", Side::Left),
        ("policy", Side::Right),
        ("status", Side::Left),
        ("migration", Side::Left),
        ("made", Side::Right),
    ]);
    for decision in decisions {
        let chosen = decision.candidates.iter().find(|c| Some(&c.node) == decision.destination.as_ref());
        table.row(vec![
            Cell::from(&decision.workload),
            Cell::from(&decision.source),
            Cell::from(match (&decision.destination, decision.kind) {
                (Some(node), _) => node.as_str(),
                (None, Kind::Resize) => "resized",
                (None, Kind::Migrate) => "stays",
            }),
            units::or_unknown(chosen.and_then(|chosen| chosen.score), |score| format!("{score:.4}")).into(),
            decision.candidates.len().to_string().into(),
            Cell::from(&decision.asked_by),
            decision.policy_version.to_string().into(),
            Cell::toned(
                decision.status.to_string(),
                if decision.status.is_open() { Tone::Warning } else { Tone::Plain },
            ),
            units::or_unknown(decision.migration, short).into(),
            Cell::quiet(units::ago(decision.at, now)),
        ]);
    }
    table
}
