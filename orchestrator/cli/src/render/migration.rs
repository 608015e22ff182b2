//! A migration: as a row, and with everything that is known of how it went.

use fog_api::agent::{MemoryRound, Stage};
use fog_api::migration::{Cause, Keep, Migration, Phase};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::paint::{Paint, Tone};
use super::table::{Cell, Side, Table};
use super::text::{clean, short, wrap};
use super::units;

const WIDTH: usize = 96;

/// The list.
pub(crate) fn list(migrations: &[Migration], now: Timestamp) -> Table {
    let mut table = Table::new(&[
        ("id", Side::Left),
        ("workload", Side::Left),
        ("from", Side::Left),
        ("to", Side::Left),
        ("phase", Side::Left),
        ("strategy", Side::Left),
        ("asked by", Side::Left),
        ("downtime", Side::Right),
        ("sent", Side::Right),
        ("took", Side::Right),
        ("begun", Side::Right),
    ]);
    for migration in migrations {
        table.row(vec![
            short(migration.id).into(),
            Cell::from(&migration.workload),
            Cell::from(&migration.source),
            Cell::from(&migration.destination),
            Cell::toned(migration.phase.to_string(), migration.phase.into()),
            migration.strategy.to_string().into(),
            Cell::from(&migration.asked_by),
            units::or_unknown(migration.downtime_ms, units::milliseconds).into(),
            units::or_unknown(migration.sent_bytes, units::bytes).into(),
            units::or_unknown(migration.finished_at, |at| {
                units::milliseconds(units::between(migration.created_at, at))
            })
            .into(),
            Cell::quiet(units::ago(migration.created_at, now)),
        ]);
    }
    table
}

/// One line: what, from where to where, and how it stands.
pub(crate) fn headline(migration: &Migration, paint: Paint) -> String {
    let phase = paint.tone(migration.phase.into(), &migration.phase.to_string());
    format!(
        "{}  {} → {}  {}  {phase}",
        paint.head(&clean(&migration.workload)),
        clean(&migration.source),
        clean(&migration.destination),
        migration.strategy,
    )
}

/// How it went: phases, stages, sizes, downtime.
pub(crate) fn course(migration: &Migration, now: Timestamp, zone: &TimeZone, paint: Paint) -> String {
    let mut out = String::new();
    if let Some(reason) = &migration.strategy_reason {
        let why = wrap(&format!("{}: {}.", migration.strategy, clean(reason)), WIDTH, "  ");
        out.push_str(&format!("{}\n  {why}\n\n", paint.head("Strategy")));
    }
    out.push_str(&format!("{}\n{}", paint.head("Phases"), phases(migration, now, zone).render(paint, "  ")));
    if !migration.stages_ms.is_empty() {
        out.push_str(&format!("\n{}\n{}", paint.head("Stages"), stages(migration).render(paint, "  ")));
    }
    if let Some(memory) = migration.memory.as_ref().filter(|memory| !memory.rounds.is_empty()) {
        out.push_str(&format!("\n{}\n{}", paint.head("Rounds"), rounds(&memory.rounds).render(paint, "  ")));
    }
    out.push_str(&format!("\n{}\n{}", paint.head("Measured"), measured(migration, now).render(paint, "  ")));
    out
}

fn phases(migration: &Migration, now: Timestamp, zone: &TimeZone) -> Table {
    let mut table = Table::new(&[("phase", Side::Left), ("began", Side::Left), ("took", Side::Right)]);
    for (index, entry) in migration.phases.iter().enumerate() {
        let end = migration.phases.get(index + 1).map(|next| next.at);
        let took = match end {
            Some(end) => units::milliseconds(units::between(entry.at, end)),
            None if entry.phase.is_over() => String::new(),
            None => format!("{} so far", units::milliseconds(units::between(entry.at, now))),
        };
        let phase =
            Cell::toned(entry.phase.to_string(), if entry.phase.is_over() { entry.phase.into() } else { Tone::Plain });
        table.row(vec![phase, Cell::quiet(units::clock(entry.at, zone)), took.into()]);
    }
    table
}

fn stages(migration: &Migration) -> Table {
    let mut table = Table::new(&[("stage", Side::Left), ("took", Side::Right), ("bytes", Side::Right)]);
    for (stage, ms) in &migration.stages_ms {
        let bytes = migration.stages_bytes.get(stage).map_or(String::new(), |bytes| units::bytes(*bytes));
        table.row(vec![stage_word(*stage).into(), units::milliseconds(*ms).into(), bytes.into()]);
    }
    table
}

fn rounds(rounds: &[MemoryRound]) -> Table {
    let mut table =
        Table::new(&[("round", Side::Left), ("changed", Side::Right), ("sent", Side::Right), ("took", Side::Right)]);
    for (index, round) in rounds.iter().enumerate() {
        let (changed, sent) = (units::bytes(round.content_bytes), units::bytes(round.sent_bytes));
        table.row(vec![
            (index + 1).to_string().into(),
            changed.into(),
            sent.into(),
            units::milliseconds(round.took_ms).into(),
        ]);
    }
    table
}

/// One round in a line.
pub(crate) fn round(number: usize, round: &MemoryRound) -> String {
    format!(
        "round {number}: {} changed, {} sent in {}",
        units::bytes(round.content_bytes),
        units::bytes(round.sent_bytes),
        units::milliseconds(round.took_ms)
    )
}

fn measured(migration: &Migration, now: Timestamp) -> Table {
    let end = migration.finished_at.unwrap_or(now);
    let mut table = Table::new(&[("what", Side::Left), ("value", Side::Right)]);
    let mut row = |what: &str, value: String| table.row(vec![what.into(), value.into()]);
    row("downtime (at most)", units::or_unknown(migration.downtime_ms, units::milliseconds));
    row("from request to end", units::milliseconds(units::between(migration.created_at, end)));
    if let Some(connections) = migration.connections.as_ref().filter(|connections| connections.open > 0) {
        let fate = if connections.kept { "kept" } else { "closed" };
        row("connections", format!("{} {fate}", connections.open));
    }
    row("checkpoint", units::or_unknown(migration.checkpoint_bytes, units::bytes));
    row("sent", units::or_unknown(migration.sent_bytes, units::bytes));
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    if let Some(rate) = migration.memory.as_ref().and_then(|memory| memory.dirty_bytes_per_s) {
        row("writes to memory", units::rate(rate as f64));
    }
    let seconds = migration.stages_ms.get(&Stage::Ship).map(|ms| ms / 1000.0).filter(|seconds| *seconds > 0.0);
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    if let (Some(sent), Some(seconds)) = (migration.sent_bytes, seconds) {
        row("rate", units::rate(sent as f64 / seconds));
    }
    table
}

/// Why it did not end as asked, with the log that shows it.
pub(crate) fn cause(cause: &Cause, phase: Phase, paint: Paint) -> String {
    let place = match (cause.step, &cause.node) {
        (Some(step), Some(node)) => format!(" (step {} on {})", step, clean(node)),
        (Some(step), None) => format!(" (step {})", step),
        (None, Some(node)) => format!(" (on {})", clean(node)),
        (None, None) => String::new(),
    };
    let head = paint.tone(phase.into(), &format!("Why {phase}"));
    let mut out = format!("{head}{place}\n  {}\n", wrap(&cause.message, WIDTH, "  "));
    for line in &cause.log {
        out.push_str(&format!("  {}\n", paint.quiet(&format!("| {}", clean(line)))));
    }
    out
}

/// What a person decided about it, or may decide; `None`: there is nothing to decide.
pub(crate) fn resolution(migration: &Migration, zone: &TimeZone, paint: Paint) -> Option<String> {
    let freeze = migration.frozen_at.map(|at| format!(" (frozen {})", units::moment(at, zone))).unwrap_or_default();
    let ends = |keep| match keep {
        Keep::Source => clean(&migration.source),
        Keep::Destination => clean(&migration.destination),
    };
    if let Some(word) = &migration.resolution {
        let (who, at) = (clean(&word.by), units::moment(word.at, zone));
        let gone = if word.destination_is_gone { ", and nobody waits for the destination" } else { "" };
        let head = paint.head("Decided by a person");
        return Some(format!("{head}\n  {who}, {at}: {} keeps it{gone}{freeze}\n", ends(word.keep)));
    }
    if migration.phase != Phase::Failed || migration.answered.is_empty() || migration.frozen_at.is_none() {
        return None;
    }
    let head = paint.head("A person has to decide");
    let id = short(migration.id);
    Some(format!(
        "{head}\n  fogctl migration resolve {id} --keep source       {}'s copy goes on as of the freeze{freeze}\n  \
         fogctl migration resolve {id} --keep destination  {} starts anew, the frozen copy is removed\n",
        ends(Keep::Source),
        ends(Keep::Destination)
    ))
}

pub(crate) fn stage_word(stage: Stage) -> &'static str {
    match stage {
        Stage::Sync => "sync",
        Stage::PreCopy => "pre-copy",
        Stage::Freeze => "freeze",
        Stage::Dump => "dump",
        Stage::Ship => "ship",
        Stage::Verify => "verify",
        Stage::Restore => "restore",
        Stage::Drain => "drain",
        Stage::Resume => "resume",
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use fog_api::agent::Step;
    use fog_api::migration::{Connections, PhaseEntry, Strategy};

    pub(crate) fn example() -> Migration {
        let at = |ms: i64| Timestamp::from_millisecond(1_777_900_000_000 + ms).unwrap();
        Migration {
            id: "019aaf31-5c2e-7000-8000-000000000000".parse().unwrap(),
            workload: "looper".into(),
            source: "A".into(),
            destination: "C".into(),
            strategy: Strategy::StopAndCopy,
            strategy_reason: None,
            auto: false,
            asked_by: "policy".into(),
            decision: uuid::Uuid::nil(),
            phase: Phase::Done,
            cause: None,
            resolution: None,
            frozen_at: None,
            progress: None,
            created_at: at(0),
            finished_at: Some(at(2_340)),
            phases: vec![
                PhaseEntry { phase: Phase::Inspecting, at: at(0) },
                PhaseEntry { phase: Phase::Moving, at: at(40) },
                PhaseEntry { phase: Phase::Done, at: at(2_340) },
            ],
            answered: Default::default(),
            stages_ms: [(Stage::Freeze, 11.3), (Stage::Ship, 500.0)].into(),
            stages_bytes: [(Stage::Ship, 1 << 20)].into(),
            connections: Some(Connections { open: 3, kept: true, reason: "Its address follows it on lan.".into() }),
            checkpoint_bytes: Some(1 << 20),
            sent_bytes: Some(2 << 20),
            memory: None,
            downtime_ms: Some(829.6),
        }
    }

    #[test]
    fn the_course_shows_what_each_part_took() {
        let migration = example();
        let text = course(&migration, migration.created_at, &TimeZone::UTC, Paint::new(false));
        for expected in [
            "  inspecting  13:06:40.000  40 ms",
            "  moving      13:06:40.040  2.3 s",
            "  freeze   11 ms",
            "  ship    500 ms  1.0 MiB",
            "rate",
            "4.0 MiB/s",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
        assert!(!text.contains("Rounds"), "it had none");
    }

    #[test]
    fn rounds_are_shown_one_a_line() {
        let mut migration = example();
        let one = MemoryRound { content_bytes: 48 << 20, sent_bytes: 47 << 20, took_ms: 980.0 };
        let other = MemoryRound { content_bytes: 6 << 20, sent_bytes: 6 << 20, took_ms: 120.0 };
        let memory = migration.memory.get_or_insert_default();
        (memory.rounds, memory.dirty_bytes_per_s) = (vec![one, other], Some(11 << 20));
        let text = course(&migration, migration.created_at, &TimeZone::UTC, Paint::new(false));
        for expected in ["1       48 MiB   47 MiB  980 ms", "2      6.0 MiB", "writes to memory", "11 MiB/s"] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
        assert_eq!(round(2, &other), "round 2: 6.0 MiB changed, 6.0 MiB sent in 120 ms");
    }

    #[test]
    fn a_cause_names_the_step_the_node_and_the_log() {
        let failed = Cause {
            step: Some(Step::Restore),
            node: Some("C".into()),
            message: "CRIU said no.".into(),
            log: vec!["Error: \u{1b}[31mno".into()],
        };
        let text = cause(&failed, Phase::RolledBack, Paint::new(false));
        assert_eq!(text, "Why rolled-back (step restore on C)\n  CRIU said no.\n  | Error: \u{fffd}[31mno\n");
    }

    #[test]
    fn a_row_is_short() {
        let migration = example();
        let text = list(std::slice::from_ref(&migration), migration.created_at).render(Paint::new(false), "");
        assert!(
            text.contains(
                "019aaf31-5c2e  looper    A     C   done   stop-and-copy  policy      830 ms  2.0 MiB  2.3 s    now"
            ),
            "{text}"
        );
    }
}
