//! `fogctl preflight`

use fog_api::preflight::{Preflight, Weight};

use crate::arguments;
use crate::exit::{Exit, Failure};
use crate::render::paint::{Paint, Tone};
use crate::render::table::{Cell, Side, Table};
use crate::render::text::clean;
use crate::render::units;
use crate::session::Session;

pub(super) async fn run(session: &Session, asked: &arguments::Preflight) -> Result<Exit, Failure> {
    let found = session.reader()?.preflight(&asked.workload, &asked.to).await?;
    session.result(&found, |paint| people(&found, paint))?;
    Ok(if found.possible { Exit::Done } else { Exit::Failed })
}

fn people(found: &Preflight, paint: Paint) -> String {
    let verdict = match (found.possible, found.findings.is_empty()) {
        (true, true) => "nothing stands in the way",
        (true, false) => "possible",
        (false, _) => "not possible",
    };
    let tone = if found.possible { Tone::Good } else { Tone::Bad };
    let mut out = format!(
        "{}  {} → {}  {}  ({})\n",
        paint.head(&clean(&found.workload)),
        clean(&found.source),
        clean(&found.destination),
        paint.tone(tone, verdict),
        units::milliseconds(found.took_ms),
    );
    if let Some(connections) = found.connections.as_ref().filter(|connections| connections.open > 0) {
        let fate = if connections.kept { "go on" } else { "are closed when it moves" };
        out.push_str(&format!("{} open connection(s) {fate}. {}\n", connections.open, clean(&connections.reason)));
    }
    if !found.findings.is_empty() {
        let columns = [("weight", Side::Left), ("check", Side::Left), ("node", Side::Left), ("what", Side::Left)];
        let mut table = Table::new(&columns);
        for finding in &found.findings {
            let tone = if finding.weight == Weight::Blocker { Tone::Bad } else { Tone::Warning };
            table.row(vec![
                Cell::toned(finding.weight.to_string(), tone),
                Cell::from(&finding.check),
                Cell::from(finding.node.as_deref().unwrap_or("-")),
                Cell::from(&finding.message),
            ]);
        }
        out.push('\n');
        out.push_str(&table.render(paint, ""));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use fog_api::migration::Connections;
    use fog_api::preflight::Finding;

    #[test]
    fn people_see_every_reason() {
        let found = Preflight {
            workload: "web".into(),
            source: "A".into(),
            destination: "B".into(),
            possible: false,
            findings: vec![Finding::blocker("tty", "The container has a TTY.").by("A")],
            connections: Some(Connections { open: 2, kept: false, reason: "It cannot follow.".into() }),
            took_ms: 12.0,
        };
        let shown = people(&found, Paint::new(false));
        for words in
            ["web  A → B  not possible", "2 open connection(s) are closed", "blocker  tty    A     The container"]
        {
            assert!(shown.contains(words), "{words}: {shown}");
        }
    }
}
