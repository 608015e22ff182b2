//! `fogctl workloads`

use fog_api::workload::{Workload, WorkloadState};
use jiff::Timestamp;

use crate::exit::{Exit, Failure};
use crate::render::paint::Tone;
use crate::render::table::{Cell, Side, Table};
use crate::render::units;
use crate::session::Session;

pub(super) async fn run(session: &Session, node: Option<&str>) -> Result<Exit, Failure> {
    let client = session.reader()?;
    if let Some(node) = node {
        client.node(node).await?; // a name that is mistyped is not an empty node
    }
    let workloads = client.workloads(node).await?;
    session.result(&workloads, |paint| table(&workloads.items, Timestamp::now()).render(paint, ""))?;
    if workloads.items.is_empty() {
        eprintln!("No container is known{}.", node.map(|node| format!(" on {node}")).unwrap_or_default());
    }
    Ok(Exit::Done)
}

fn table(workloads: &[Workload], now: Timestamp) -> Table {
    let mut table = Table::new(&[
        ("name", Side::Left),
        ("node", Side::Left),
        ("state", Side::Left),
        ("cpus", Side::Right),
        ("memory", Side::Right),
        ("epoch", Side::Right),
        ("moved", Side::Right),
        ("seen", Side::Right),
        ("image", Side::Left),
        ("can move", Side::Left),
    ]);
    for workload in workloads {
        let (state, tone) = match (workload.migration, workload.state) {
            (Some(_), _) => ("migrating", Tone::Head),
            (None, WorkloadState::Running) => ("running", Tone::Good),
            (None, WorkloadState::Paused) => ("paused", Tone::Warning),
            (None, WorkloadState::Stopped) => ("stopped", Tone::Quiet),
        };
        let can_move = match workload.obstacles.as_slice() {
            [] => Cell::from("yes"),
            [why] => Cell::toned(format!("no: {why}"), Tone::Warning),
            [why, more @ ..] => Cell::toned(format!("no: {why} (and {} more)", more.len()), Tone::Warning),
        };
        table.row(vec![
            Cell::from(&workload.name),
            Cell::from(&workload.node),
            Cell::toned(state, tone),
            format!("{:.2}", workload.cpus).into(),
            units::bytes(workload.memory_bytes).into(),
            workload.epoch.to_string().into(),
            Cell::quiet(units::or_unknown(workload.moved_at, |at| units::ago(at, now))),
            Cell::quiet(units::ago(workload.seen_at, now)),
            Cell::from(&workload.image),
            can_move,
        ]);
    }
    table
}
