//! `fogctl nodes`

use fog_api::node::{Availability, Node};
use jiff::Timestamp;

use crate::exit::{Exit, Failure};
use crate::render::paint::{self, Tone};
use crate::render::table::{Cell, Side, Table};
use crate::render::units;
use crate::session::Session;

pub(super) async fn run(session: &Session) -> Result<Exit, Failure> {
    let nodes = session.reader()?.nodes().await?;
    session.result(&nodes, |paint| table(&nodes.items, Timestamp::now()).render(paint, ""))?;
    if nodes.items.is_empty() {
        eprintln!("No node has reported yet: start fog-agent on one.");
    }
    for node in nodes.items.iter().filter(|_| !session.wants_json()) {
        for why in &node.facts.cannot_migrate {
            let text = crate::render::text::clean(&format!("{} cannot migrate: {why}", node.name));
            eprintln!("{}", session.paint_stderr().tone(Tone::Warning, &text));
        }
    }
    Ok(Exit::Done)
}

fn table(nodes: &[Node], now: Timestamp) -> Table {
    let mut table = Table::new(&[
        ("name", Side::Left),
        ("availability", Side::Left),
        ("cpu", Side::Right),
        ("sustained", Side::Right),
        ("memory", Side::Right),
        ("of", Side::Right),
        ("run queue", Side::Right),
        ("pressure", Side::Right),
        ("temp", Side::Right),
        ("workloads", Side::Right),
        ("migrates", Side::Left),
        ("heartbeat", Side::Right),
    ]);
    for node in nodes {
        let used = node.utilization.as_ref();
        let number = |value: Option<String>| value.unwrap_or_else(|| units::UNKNOWN.to_owned());
        let share = |value: Option<f64>| {
            Cell::toned(units::or_unknown(value, units::percent), value.map_or(Tone::Quiet, paint::load))
        };
        let pressure = used.and_then(|used| used.pressure).map(|p| p.cpu.max(p.memory).max(p.io));
        let migrates =
            if node.facts.cannot_migrate.is_empty() { Cell::from("yes") } else { Cell::toned("no", Tone::Warning) };
        table.row(vec![
            Cell::from(&node.name),
            Cell::toned(availability(node), node.availability.into()),
            share(used.map(|used| used.cpu)),
            share(used.map(|used| used.cpu_sustained)),
            share(used.map(|used| used.memory)),
            units::bytes(node.facts.memory_bytes).into(),
            number(used.map(|used| format!("{:.1}", used.run_queue))).into(),
            number(pressure.map(units::percent)).into(),
            number(used.and_then(|used| used.temperature_c).map(|celsius| format!("{celsius:.0} °C"))).into(),
            node.workloads.to_string().into(),
            migrates,
            Cell::quiet(units::or_unknown(node.heartbeat_at, |at| units::ago(at, now))),
        ]);
    }
    table
}

fn availability(node: &Node) -> String {
    let availability = match node.availability {
        Availability::Active => "active",
        Availability::Suspect => "suspect",
        Availability::Offline => "offline",
    };
    match (node.draining, node.cordoned) {
        (true, _) => format!("{availability}, draining"),
        (false, true) => format!("{availability}, cordoned"),
        (false, false) => availability.to_owned(),
    }
}
