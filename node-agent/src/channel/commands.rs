//! Commands that arrive, and what comes of them.
//!
//! Steps outlive connections: each runs in a task of its own, and its answer waits here for
//! whatever connection is open when it is done.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fog_api::agent::{
    Answer, CheckedUp, Checkup, Command, Examine, Examined, Logged, Progress, Resize, Resized, Stage,
};
use fog_api::doctor::Check;
use fog_api::migration::LogLine;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use uuid::Uuid;

/// Progress is for people: more often than this nobody can read it.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Lines of the log in one message.
const LINES_AT_ONCE: usize = 64;

/// Carries out one command to its end. A repetition joins what is under way or gets the same answer again.
#[derive(Clone)]
pub struct CarryOut(Arc<dyn Fn(Command, mpsc::Sender<Progress>) -> BoxFuture<'static, Answer> + Send + Sync>);

/// Makes a [`CarryOut`] of an asynchronous function.
pub fn carry_out_with<F, A>(function: F) -> CarryOut
where
    F: Fn(Command, mpsc::Sender<Progress>) -> A + Send + Sync + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    CarryOut(Arc::new(move |command, progress| Box::pin(function(command, progress))))
}

impl fmt::Debug for CarryOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CarryOut")
    }
}

/// Gives a container other limits.
#[derive(Clone)]
pub struct Resizer(Arc<dyn Fn(Resize) -> BoxFuture<'static, Resized> + Send + Sync>);

/// Makes a [`Resizer`] of an asynchronous function.
pub fn resize_with<F, A>(function: F) -> Resizer
where
    F: Fn(Resize) -> A + Send + Sync + 'static,
    A: Future<Output = Resized> + Send + 'static,
{
    Resizer(Arc::new(move |resize| Box::pin(function(resize))))
}

impl Default for Resizer {
    fn default() -> Self {
        let no = |id| Resized { id, error: Some("this agent changes no limits".to_owned()) };
        resize_with(move |resize| async move { no(resize.id) })
    }
}

impl fmt::Debug for Resizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resizer")
    }
}

/// Looks at the node.
#[derive(Clone)]
pub struct Checker(Arc<dyn Fn() -> BoxFuture<'static, Vec<Check>> + Send + Sync>);

/// Makes a [`Checker`] of an asynchronous function.
pub fn check_with<F, A>(function: F) -> Checker
where
    F: Fn() -> A + Send + Sync + 'static,
    A: Future<Output = Vec<Check>> + Send + 'static,
{
    Checker(Arc::new(move || Box::pin(function())))
}

impl fmt::Debug for Checker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Checker")
    }
}

/// Looks at what stands in the way of a migration.
#[derive(Clone)]
pub struct Examiner(Arc<dyn Fn(Examine) -> BoxFuture<'static, Examined> + Send + Sync>);

/// Makes an [`Examiner`] of an asynchronous function.
pub fn examine_with<F, A>(function: F) -> Examiner
where
    F: Fn(Examine) -> A + Send + Sync + 'static,
    A: Future<Output = Examined> + Send + 'static,
{
    Examiner(Arc::new(move |question| Box::pin(function(question))))
}

impl Default for Examiner {
    fn default() -> Self {
        examine_with(|question| async move { Examined { id: question.id, ..Examined::default() } })
    }
}

impl fmt::Debug for Examiner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Examiner")
    }
}

/// Commands on their way in, answers on their way out.
#[derive(Debug)]
pub(super) struct Commands {
    carry_out: CarryOut,
    pub(super) resizer: Resizer,
    pub(super) examiner: Examiner,
    pub(super) checker: Checker,
    checked: (mpsc::UnboundedSender<CheckedUp>, mpsc::UnboundedReceiver<CheckedUp>),
    examined: (mpsc::UnboundedSender<Examined>, mpsc::UnboundedReceiver<Examined>),
    resized: (mpsc::UnboundedSender<Resized>, mpsc::UnboundedReceiver<Resized>),
    answers: (mpsc::UnboundedSender<Answer>, mpsc::UnboundedReceiver<Answer>),
    progress: (mpsc::Sender<Progress>, mpsc::Receiver<Progress>),
    lines: mpsc::Receiver<(Uuid, LogLine)>,
    throttle: Throttle,
}

/// Something to tell the orchestrator.
pub(super) enum News {
    Logged(Logged),
    Answer(Answer),
    Progress(Progress),
    Resized(Resized),
    Examined(Examined),
    CheckedUp(CheckedUp),
}

impl Commands {
    pub(super) fn new(carry_out: CarryOut) -> Self {
        Self {
            carry_out,
            resizer: Resizer::default(),
            examiner: Examiner::default(),
            checker: check_with(|| async { Vec::new() }),
            checked: mpsc::unbounded_channel(),
            examined: mpsc::unbounded_channel(),
            resized: mpsc::unbounded_channel(),
            answers: mpsc::unbounded_channel(),
            progress: mpsc::channel(64),
            lines: crate::lines::receiver(),
            throttle: Throttle::default(),
        }
    }

    /// Begins a command, or joins the same one under way: either way an answer will come.
    pub(super) fn begin(&self, command: Command) {
        let work = (self.carry_out.0)(command, self.progress.0.clone());
        let answers = self.answers.0.clone();
        tokio::spawn(async move {
            let answer = work.await;
            // The receiver is gone only when the agent ends; the orchestrator will ask again.
            let _ = answers.send(answer);
        });
    }

    /// Begins to look at the node. An answer that finds no connection is lost, and so is the question.
    pub(super) fn check(&self, asked: Checkup) {
        let work = (self.checker.0)();
        let checked = self.checked.0.clone();
        tokio::spawn(async move {
            let _ = checked.send(CheckedUp { id: asked.id, checks: work.await });
        });
    }

    /// Begins to look. An answer that finds no connection is lost, and so is the question.
    pub(super) fn examine(&self, question: Examine) {
        let work = (self.examiner.0)(question);
        let examined = self.examined.0.clone();
        tokio::spawn(async move {
            let _ = examined.send(work.await);
        });
    }

    /// Begins to give a container other limits. An answer that finds no connection is lost, and then asked for again.
    pub(super) fn resize(&self, resize: Resize) {
        let work = (self.resizer.0)(resize);
        let resized = self.resized.0.clone();
        tokio::spawn(async move {
            let _ = resized.send(work.await);
        });
    }

    /// The next thing to tell.
    pub(super) async fn news(&mut self) -> News {
        let mut lines = Vec::new();
        loop {
            tokio::select! {
                biased;
                // Before the answer: with the last one the migration's log is closed.
                1.. = self.lines.recv_many(&mut lines, LINES_AT_ONCE) => return News::Logged(Logged { lines }),
                Some(answer) = self.answers.1.recv() => return News::Answer(answer),
                Some(checked) = self.checked.1.recv() => return News::CheckedUp(checked),
                Some(examined) = self.examined.1.recv() => return News::Examined(examined),
                Some(resized) = self.resized.1.recv() => return News::Resized(resized),
                Some(progress) = self.progress.1.recv() => {
                    if self.throttle.admits(&progress, Instant::now()) {
                        return News::Progress(progress);
                    }
                }
            }
        }
    }
}

/// Lets the first and the last report of a stage and of a round through, and between them one now and then.
#[derive(Debug, Default)]
struct Throttle {
    last: Option<(Uuid, Stage, usize, Instant)>,
}

impl Throttle {
    fn admits(&mut self, progress: &Progress, now: Instant) -> bool {
        let complete = progress.bytes_total == Some(progress.bytes);
        let rounds = progress.finished.rounds.len();
        let soon = self.last.is_some_and(|(migration, stage, before, at)| {
            migration == progress.migration
                && stage == progress.stage
                && before == rounds
                && now.saturating_duration_since(at) < PROGRESS_EVERY
        });
        if soon && !complete {
            return false;
        }
        self.last = Some((progress.migration, progress.stage, rounds, now));
        true
    }
}

#[cfg(test)]
mod tests {
    use fog_api::agent::Finished;

    use super::*;

    #[test]
    fn the_beginning_and_the_end_of_a_stage_pass() {
        let mut throttle = Throttle::default();
        let start = Instant::now();
        let at = |stage, bytes| {
            let finished = Finished::default();
            Progress { migration: Uuid::nil(), stage, bytes, bytes_total: Some(100), finished }
        };
        let ms = Duration::from_millis;
        assert!(throttle.admits(&at(Stage::Dump, 1), start));
        assert!(!throttle.admits(&at(Stage::Dump, 2), start + ms(100)));
        assert!(throttle.admits(&at(Stage::Dump, 3), start + ms(200)));
        assert!(throttle.admits(&at(Stage::Ship, 1), start + ms(201)));
        assert!(throttle.admits(&at(Stage::Ship, 100), start + ms(202)));
    }
}
