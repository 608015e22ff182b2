//! `fogctl top`: the cluster at a glance, again and again.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use fog_api::client::{Client, MigrationFilter};
use fog_api::migration::Migration;
use fog_api::node::{Availability, Node};
use fog_api::workload::Workload;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::render::paint::{self, Paint, Tone};
use crate::render::table::{Cell, Side, Table};
use crate::render::text::clean;
use crate::render::{migration, units};
use crate::session::{Session, write};

/// Its own screen, no cursor; and back.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";
/// From the top left, the rest of each line and of the screen is cleared as it is written over: nothing flickers.
const HOME: &str = "\u{1b}[H";
const REST_OF_LINE: &str = "\u{1b}[K";
const REST_OF_SCREEN: &str = "\u{1b}[J";
/// Migrations that are shown: those under way, and the newest.
const NEWEST: u32 = 20;

/// What is shown.
#[derive(Debug, Serialize)]
struct View {
    at: Timestamp,
    nodes: Vec<Node>,
    workloads: Vec<Workload>,
    /// Newest first.
    migrations: Vec<Migration>,
}

impl View {
    async fn read(client: &Client) -> Result<Self, Failure> {
        let filter = MigrationFilter { workload: None, limit: Some(NEWEST) };
        let (nodes, workloads, migrations) =
            tokio::try_join!(client.nodes(), client.workloads(None), client.migrations(&filter))?;
        let mut nodes = nodes.items;
        let busy = |node: &Node| node.utilization.as_ref().map_or(-1.0, |used| used.cpu_sustained);
        nodes.sort_by(|a, b| busy(b).total_cmp(&busy(a)).then_with(|| a.name.cmp(&b.name)));
        Ok(Self { at: Timestamp::now(), nodes, workloads: workloads.items, migrations: migrations.items })
    }
}

/// Leaves the terminal as it was, however the program goes on.
struct Screen;

impl Screen {
    fn enter() -> Result<Self, Failure> {
        write(ENTER)?;
        Ok(Self)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut stdout = std::io::stdout();
        let _ = stdout.write_all(LEAVE.as_bytes());
        let _ = stdout.flush();
    }
}

pub(super) async fn run(session: &Session, once: bool, every: Duration) -> Result<Exit, Failure> {
    let client = session.reader()?;
    let first = View::read(&client).await?;
    if once || session.wants_json() || !std::io::stdout().is_terminal() {
        session.result(&first, |paint| text(&first, session.url(), None, None, paint))?;
        return Ok(Exit::Done);
    }
    let _screen = Screen::enter()?;
    let mut view = Ok(first);
    let mut last = None;
    loop {
        match view {
            Ok(fresh) => last = Some((fresh, None)),
            // What was seen last stays, and that it is old is said.
            Err(failure) => {
                let failure: Failure = failure;
                last = last.map(|(seen, _)| (seen, Some(failure.what)));
            }
        }
        if let Some((seen, trouble)) = &last {
            let rows = terminal_size::terminal_size().map_or(24, |(_, height)| usize::from(height.0));
            let shown = text(seen, session.url(), trouble.as_deref(), Some(rows), session.paint_stdout());
            let lines: String = shown.lines().take(rows).map(|line| format!("{line}{REST_OF_LINE}\r\n")).collect();
            // A line feed behind the last line would scroll the first one away.
            write(&format!("{HOME}{}{REST_OF_SCREEN}", lines.trim_end_matches("\r\n")))?;
        }
        view = tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Done),
            view = async {
                tokio::time::sleep(every).await;
                View::read(&client).await
            } => view,
        };
    }
}

/// The whole view; with `rows`, no more lines than a screen has.
fn text(view: &View, url: &str, trouble: Option<&str>, rows: Option<usize>, paint: Paint) -> String {
    let count = |wanted| view.nodes.iter().filter(|node| node.availability == wanted).count();
    let (active, suspect, offline) =
        (count(Availability::Active), count(Availability::Suspect), count(Availability::Offline));
    let running: Vec<&Migration> = view.migrations.iter().filter(|migration| !migration.phase.is_over()).collect();
    let mut out = format!(
        "{}  {}  {active} active{}{}  {} workloads  {} migrating\n",
        paint.head(&clean(url)),
        paint.quiet(&units::clock(view.at, &TimeZone::system())[..8]),
        toned(paint, Tone::Warning, suspect, "suspect"),
        toned(paint, Tone::Bad, offline, "offline"),
        view.workloads.len(),
        running.len(),
    );
    if let Some(trouble) = trouble {
        out.push_str(&format!("{}\n", paint.bad(&clean(trouble))));
    }
    // The head, its line, blank lines and two heads of tables; half of what is left at most is for migrations.
    let room = rows.map_or(usize::MAX, |rows| rows.saturating_sub(7));
    let moves = view.migrations.len().min(room / 2).min(if rows.is_some() { 10 } else { NEWEST as usize });
    let nodes = room.saturating_sub(moves).min(view.nodes.len());
    out.push('\n');
    out.push_str(&node_table(&view.nodes[..nodes]).render(paint, ""));
    if nodes < view.nodes.len() {
        out.push_str(&paint.quiet(&format!("and {} calmer ones\n", view.nodes.len() - nodes)));
    }
    if moves > 0 {
        out.push('\n');
        let mut shown = running;
        shown.extend(view.migrations.iter().filter(|migration| migration.phase.is_over()));
        for one in &shown[..moves] {
            out.push_str(&format!("{}{}\n", migration::headline(one, paint), progress(one)));
        }
    }
    out
}

fn toned(paint: Paint, tone: Tone, count: usize, word: &str) -> String {
    if count == 0 { String::new() } else { format!("  {}", paint.tone(tone, &format!("{count} {word}"))) }
}

fn progress(migration: &Migration) -> String {
    let Some(progress) = &migration.progress else { return String::new() };
    let mut words = format!("  {} {}", migration::stage_word(progress.stage), units::bytes(progress.bytes));
    words.extend(progress.bytes_total.map(|total| format!(" of {}", units::bytes(total))));
    words.extend(progress.rate_bytes_per_s.map(|rate| format!("  {}", units::rate(rate))));
    words.extend(progress.eta_s.map(|eta| format!("  {} left", units::milliseconds(eta * 1000.0))));
    words
}

fn node_table(nodes: &[Node]) -> Table {
    let columns = [
        ("node", Side::Left),
        ("", Side::Left),
        ("cpu", Side::Right),
        ("", Side::Left),
        ("memory", Side::Right),
        ("run queue", Side::Right),
        ("disk", Side::Right),
        ("workloads", Side::Right),
    ];
    let mut table = Table::new(&columns);
    for node in nodes {
        let used = node.utilization.as_ref();
        let share = |value: Option<f64>| {
            Cell::toned(units::or_unknown(value, units::percent), value.map_or(Tone::Quiet, paint::load))
        };
        let cpu = used.map(|used| used.cpu_sustained);
        let state = match (node.availability, node.draining, node.cordoned) {
            (Availability::Suspect, ..) => Cell::toned("suspect", Tone::Warning),
            (Availability::Offline, ..) => Cell::toned("offline", Tone::Bad),
            (_, true, _) => Cell::toned("draining", Tone::Warning),
            (_, _, true) => Cell::quiet("cordoned"),
            _ => Cell::toned("active", Tone::Good),
        };
        table.row(vec![
            Cell::from(&node.name),
            state,
            share(cpu),
            Cell::toned(bar(cpu.unwrap_or_default()), cpu.map_or(Tone::Quiet, paint::load)),
            share(used.map(|used| used.memory)),
            units::or_unknown(used, |used| format!("{:.1}", used.run_queue)).into(),
            share(used.map(|used| used.disk)),
            node.workloads.to_string().into(),
        ]);
    }
    table
}

/// A share as twenty places.
fn bar(share: f64) -> String {
    const PLACES: usize = 20;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 20")]
    let full = (share.clamp(0.0, 1.0) * PLACES as f64).round() as usize;
    format!("{}{}", "█".repeat(full), "░".repeat(PLACES - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, cpu: f64) -> Node {
        serde_json::from_value(serde_json::json!({
            "name": name, "availability": "active", "connected": true, "cordoned": false, "draining": false,
            "agent_version": "0", "transfer_address": "a:1", "facts": fog_api::agent::NodeFacts::default(),
            "utilization": {"at": "2026-01-01T00:00:00Z", "cpu": cpu, "cpu_sustained": cpu, "memory": 0.5, "run_queue": 1.0,
                "pressure": null, "disk": 0.1, "temperature_c": null},
            "links": [], "workloads": 2, "heartbeat_at": null
        }))
        .unwrap()
    }

    #[test]
    fn a_screen_holds_the_busiest_and_says_how_many_are_left_out() {
        let nodes = (0..40).map(|number| node(&format!("n{number:02}"), 1.0 - f64::from(number) / 50.0)).collect();
        let view = View { at: Timestamp::UNIX_EPOCH, nodes, workloads: vec![], migrations: vec![] };
        let shown = text(&view, "http://fog:1", None, Some(24), Paint::new(false));
        assert!(shown.lines().count() <= 24, "{shown}");
        assert!(
            shown.contains("n00   active  100 %  ████████████████████") && shown.contains("and 23 calmer ones"),
            "{shown}"
        );
        let whole = text(&view, "http://fog:1", Some("it is away"), None, Paint::new(false));
        assert!(whole.contains("n39") && whole.contains("it is away"), "{whole}");
    }
}
