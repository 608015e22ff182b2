//! The progress of a migration while somebody waits for it: one live line on a terminal, a line for each change anywhere
//! else.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use fog_api::agent::Stage;
use fog_api::client::Update;
use fog_api::migration::{Migration, Phase};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::render::migration::{round, stage_word};
use crate::render::paint::Paint;
use crate::render::text::clean;
use crate::render::units;

/// The pace at which bytes are reported where nothing can be redrawn.
const PLAIN_PACE: Duration = Duration::from_secs(1);

/// One line that is said again and again: redrawn on a terminal, elsewhere written when it has changed.
pub(super) struct Line {
    line: Option<ProgressBar>,
    said: String,
}

impl Line {
    pub(super) fn new(what: &str) -> Self {
        let line = std::io::stderr().is_terminal().then(|| live(&clean(what)));
        Self { line, said: String::new() }
    }

    pub(super) fn say(&mut self, words: &str) {
        match &self.line {
            Some(line) => line.set_message(words.to_owned()),
            None if self.said != words => eprintln!("{words}"),
            None => {}
        }
        words.clone_into(&mut self.said);
    }

    /// Stays on the screen.
    pub(super) fn keep(&self, words: &str) {
        match &self.line {
            Some(line) => line.println(clean(words)),
            None => eprintln!("{}", clean(words)),
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(line) = self.line.take() {
            line.finish_and_clear();
        }
    }
}

fn live(prefix: &str) -> ProgressBar {
    let line = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
    if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}  {msg}  {elapsed}") {
        line.set_style(style.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ "));
    }
    line.set_prefix(prefix.to_owned());
    line.enable_steady_tick(Duration::from_millis(100));
    line
}

pub(super) struct Progress {
    began: Instant,
    /// The live line; `None` where stderr is no terminal.
    line: Option<ProgressBar>,
    rate: Rate,
    /// So many rounds were said.
    rounds: usize,
    /// What the last plain line said, and when.
    said: Option<(Phase, Option<Stage>, Instant)>,
    away: bool,
}

impl Progress {
    pub(super) fn new(begun: &Migration, paint: Paint) -> Self {
        let line = std::io::stderr().is_terminal().then(|| {
            let what = format!("{}  {} → {}", clean(&begun.workload), clean(&begun.source), clean(&begun.destination));
            live(&paint.head(&what))
        });
        if line.is_none() {
            let (workload, from, to) = (clean(&begun.workload), clean(&begun.source), clean(&begun.destination));
            eprintln!("migrating {workload} from {from} to {to} ({}), id {}", begun.strategy, begun.id);
        }
        Self { began: Instant::now(), line, rate: Rate::default(), rounds: 0, said: None, away: false }
    }

    pub(super) fn update(&mut self, update: &Update<'_>) {
        match update {
            Update::Migration(migration) => {
                self.away = false;
                self.migration(migration);
            }
            Update::Reconnecting(error) => self.reconnecting(&clean(&error.to_string())),
        }
    }

    /// Leaves the terminal as it was.
    pub(super) fn finish(&mut self) {
        if let Some(line) = self.line.take() {
            line.finish_and_clear();
        }
    }

    fn migration(&mut self, migration: &Migration) {
        let now = Instant::now();
        let stage = migration.progress.as_ref().map(|progress| progress.stage);
        self.rounds(migration, now);
        let words = self.words(migration, now);
        if let Some(line) = &self.line {
            line.set_message(words);
            return;
        }
        let due = self.said.is_none_or(|(phase, said_stage, at)| {
            phase != migration.phase || said_stage != stage || now.duration_since(at) >= PLAIN_PACE
        });
        if due {
            self.said = Some((migration.phase, stage, now));
            let elapsed = now.duration_since(self.began).as_secs_f64() * 1000.0;
            eprintln!("{:>8}  {words}", units::milliseconds(elapsed));
        }
    }

    /// Rounds that are over stay on the screen.
    fn rounds(&mut self, migration: &Migration, now: Instant) {
        let rounds = migration.memory.as_ref().map(|memory| memory.rounds.as_slice()).unwrap_or_default();
        for (index, one) in rounds.iter().enumerate().skip(self.rounds) {
            let elapsed = units::milliseconds(now.duration_since(self.began).as_secs_f64() * 1000.0);
            let words = format!("{elapsed:>8}  {}", round(index + 1, one));
            match &self.line {
                Some(line) => line.println(words),
                None => eprintln!("{words}"),
            }
        }
        self.rounds = self.rounds.max(rounds.len());
    }

    fn words(&mut self, migration: &Migration, now: Instant) -> String {
        let Some(progress) = &migration.progress else { return migration.phase.to_string() };
        let mut words = format!("{}, {}", migration.phase, stage_word(progress.stage));
        if let Some(round) = progress.round {
            words.push_str(&format!(" round {round}"));
        }
        if progress.bytes == 0 && progress.bytes_total.is_none() {
            return words;
        }
        words.push_str(&format!("  {}", units::bytes(progress.bytes)));
        if let Some(total) = progress.bytes_total {
            words.push_str(&format!(" of {}", units::bytes(total)));
        }
        if let Some(rate) = self.rate.measure((progress.stage, progress.round), progress.bytes, now) {
            words.push_str(&format!("  {}", units::rate(rate)));
            let left = progress.bytes_total.and_then(|total| time_left(progress.bytes, total, rate));
            if let Some(left) = left.filter(|ms| *ms >= 100.0) {
                words.push_str(&format!("  {} left", units::milliseconds(left)));
            }
        }
        words
    }

    fn reconnecting(&mut self, why: &str) {
        match &self.line {
            Some(line) => line.set_message(format!("reconnecting… ({why})")),
            None if !self.away => eprintln!("{why}; reconnecting…"),
            None => {}
        }
        self.away = true;
    }
}

#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
fn time_left(bytes: u64, total: u64, rate: f64) -> Option<f64> {
    (rate > 0.0 && total > bytes).then(|| (total - bytes) as f64 / rate * 1000.0)
}

/// Bytes a second since the stage began: steadier than between two reports.
#[derive(Debug, Default)]
struct Rate {
    stage: Option<((Stage, Option<u32>), u64, Instant)>,
}

impl Rate {
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    fn measure(&mut self, stage: (Stage, Option<u32>), bytes: u64, now: Instant) -> Option<f64> {
        match self.stage {
            Some((known, first, since)) if known == stage && bytes >= first => {
                let seconds = now.duration_since(since).as_secs_f64();
                (bytes > first && seconds >= 0.05).then(|| (bytes - first) as f64 / seconds)
            }
            _ => {
                self.stage = Some((stage, bytes, now));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_counts_from_the_stage_s_beginning() {
        let (mut rate, began) = (Rate::default(), Instant::now());
        assert_eq!(rate.measure((Stage::Ship, None), 0, began), None);
        assert_eq!(rate.measure((Stage::Ship, None), 100, began), None, "no time has passed");
        assert_eq!(rate.measure((Stage::Ship, None), 1000, began + Duration::from_secs(2)), Some(500.0));
        assert_eq!(rate.measure((Stage::Restore, None), 5, began + Duration::from_secs(3)), None, "another stage");
        assert_eq!(time_left(1000, 2000, 500.0), Some(2000.0));
        assert_eq!(time_left(2000, 2000, 500.0), None);
    }
}
