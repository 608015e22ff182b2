//! `fogctl doctor`: what stands in the way, of the orchestrator and of every node.

use fog_api::client::Client;
use fog_api::doctor::{Check, Report, Status};
use futures_util::{StreamExt, stream};

use crate::exit::{Exit, Failure};
use crate::render::paint::{Paint, Tone};
use crate::render::table::{Cell, Side, Table};
use crate::session::Session;

/// Nodes that are asked at once.
const AT_ONCE: usize = 16;

pub(super) async fn run(session: &Session, node: Option<&str>, all: bool) -> Result<Exit, Failure> {
    let client = session.reader()?;
    let reports = match node {
        Some(node) => vec![client.node_doctor(node).await?],
        None => cluster(&client).await?,
    };
    session.result(&reports, |paint| people(&reports, all, paint))?;
    let failed = reports.iter().flat_map(|report| &report.checks).any(|check| check.status == Status::Fail);
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

/// The orchestrator first, then the nodes by name.
async fn cluster(client: &Client) -> Result<Vec<Report>, Failure> {
    let mut reports = vec![client.doctor().await?];
    let nodes = client.nodes().await?.items;
    let asked = stream::iter(&nodes).map(async |node| {
        let report = client.node_doctor(&node.name).await;
        report.unwrap_or_else(|error| Report {
            node: Some(node.name.clone()),
            checks: vec![Check::fail("agent", error.to_string(), "ask again; see fogctl nodes")],
        })
    });
    reports.extend(asked.buffered(AT_ONCE).collect::<Vec<_>>().await);
    Ok(reports)
}

fn people(reports: &[Report], all: bool, paint: Paint) -> String {
    let columns = [("where", Side::Left), ("check", Side::Left), ("status", Side::Left), ("found", Side::Left)];
    let mut table = Table::new(&columns);
    let (mut shown, mut count) = (0, [0_usize; 3]);
    let mut remedies = Vec::new();
    for report in reports {
        let place = report.node.as_deref().unwrap_or("orchestrator");
        for check in &report.checks {
            count[check.status as usize] += 1;
            if check.status == Status::Ok && !all {
                continue;
            }
            shown += 1;
            let (word, tone) = match check.status {
                Status::Ok => ("ok", Tone::Good),
                Status::Warn => ("warn", Tone::Warning),
                Status::Fail => ("fail", Tone::Bad),
            };
            table.row(vec![
                Cell::from(place),
                Cell::from(&check.check),
                Cell::toned(word, tone),
                Cell::from(&check.found),
            ]);
            remedies.extend(check.fix.as_ref().map(|fix| (place, &check.check, fix)));
        }
    }
    let mut out = if shown == 0 { String::new() } else { table.render(paint, "") + "\n" };
    for (place, check, fix) in &remedies {
        out.push_str(&format!(
            "{}  {}\n",
            paint.head(&crate::render::text::clean(&format!("{place}, {check}:"))),
            crate::render::text::clean(fix)
        ));
    }
    if !remedies.is_empty() {
        out.push('\n');
    }
    let nodes = reports.iter().filter(|report| report.node.is_some()).count();
    let [ok, warn, fail] = count;
    out.push_str(&format!("{nodes} nodes, {ok} checks ok, {warn} warnings, {fail} failures\n"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_what_is_wrong_and_what_to_do() {
        let reports = [
            Report { node: None, checks: vec![Check::ok("database", "answers")] },
            Report { node: Some("B".into()), checks: vec![Check::fail("criu", "3.17 is too old", "install 3.18")] },
        ];
        let shown = people(&reports, false, Paint::new(false));
        let expected = "WHERE  CHECK  STATUS  FOUND\nB      criu   fail    3.17 is too old\n\nB, criu:  install 3.18\n\n\
                        1 nodes, 1 checks ok, 0 warnings, 1 failures\n";
        assert_eq!(shown, expected);
        assert!(people(&reports, true, Paint::new(false)).contains("orchestrator  database  ok"));
    }
}
