//! Migrations: one container, from one node to another.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::agent::{Finished, MemoryReport, Stage, Step};

/// How memory travels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// The orchestrator chooses.
    #[default]
    Auto,
    /// Freeze, move everything, run.
    StopAndCopy,
    /// Copy while it runs, then freeze for the rest.
    PreCopy,
    /// Freeze, move the little state, run, memory follows.
    PostCopy,
    /// Pre-copy, then post-copy.
    Hybrid,
}

/// What becomes of a workload's TCP connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Connections {
    /// How many led out of the container when it was looked at.
    pub open: u32,
    /// They go on at the destination; otherwise they are closed when the move is committed.
    pub kept: bool,
    /// Why, in a sentence.
    pub reason: String,
}

/// `POST /v1/migrations`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MigrationRequest {
    /// The workload's name.
    pub workload: String,
    /// Where to; the orchestrator chooses when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// How.
    #[serde(default)]
    pub strategy: Strategy,
}

/// `POST /v1/migrations/{id}/resolve`: which end keeps the workload of a migration that cannot end by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolveRequest {
    /// `source`: its frozen copy goes on, as of the freeze. `destination`: its copy stays, and is started anew if it does not
    /// run; the source's frozen copy is removed.
    pub keep: Keep,
    /// The destination is out of the world for good and nothing runs there: its answer is not waited for. Should it come back
    /// all the same, its copy is removed.
    #[serde(default)]
    pub destination_is_gone: bool,
}

/// An end of a migration that keeps the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// The node that had it.
    Source,
    /// The node that was to have it.
    Destination,
}

impl std::fmt::Display for Keep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Keep::Source => "source",
            Keep::Destination => "destination",
        })
    }
}

/// What a person decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Resolution {
    /// Which end keeps the workload.
    pub keep: Keep,
    /// Who said so.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Nobody waits for the destination.
    pub destination_is_gone: bool,
}

/// Where a migration stands. The states and their transitions are drawn in `fog-core`'s `migration` module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The source reads the configuration.
    Inspecting,
    /// The destination makes room.
    Reserving,
    /// The container is frozen, dumped, shipped and restored, held.
    Moving,
    /// Ownership is being written.
    Committing,
    /// The destination owns it and lets it run.
    Resuming,
    /// It runs on the destination; the source removes its frozen copy.
    Discarding,
    /// Over: it runs on the destination and nothing is left on the source.
    Done,
    /// Something failed before the commit: the source is being thawed.
    RollingBack,
    /// Over: the source was seen running.
    RolledBack,
    /// Over, and a person must look: the `cause` says why.
    Failed,
}

impl Phase {
    /// The phases in which something happens, in their order.
    pub const RUNNING: [Self; 7] = [
        Self::Inspecting,
        Self::Reserving,
        Self::Moving,
        Self::Committing,
        Self::Resuming,
        Self::Discarding,
        Self::RollingBack,
    ];

    /// Whether nothing more will happen.
    pub const fn is_over(self) -> bool {
        matches!(self, Phase::Done | Phase::RolledBack | Phase::Failed)
    }
}

impl std::fmt::Display for Strategy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Strategy::Auto => "auto",
            Strategy::StopAndCopy => "stop-and-copy",
            Strategy::PreCopy => "pre-copy",
            Strategy::PostCopy => "post-copy",
            Strategy::Hybrid => "hybrid",
        })
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Phase::Inspecting => "inspecting",
            Phase::Reserving => "reserving",
            Phase::Moving => "moving",
            Phase::Committing => "committing",
            Phase::Resuming => "resuming",
            Phase::Discarding => "discarding",
            Phase::Done => "done",
            Phase::RollingBack => "rolling-back",
            Phase::RolledBack => "rolled-back",
            Phase::Failed => "failed",
        })
    }
}

/// `GET /v1/migrations`, `GET /v1/migrations/{id}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Migration {
    /// Its id; sorts by time.
    pub id: Uuid,
    /// The workload's name.
    pub workload: String,
    /// From.
    pub source: String,
    /// To.
    pub destination: String,
    /// How; never `auto` once it is chosen.
    pub strategy: Strategy,
    /// Why that strategy, in a sentence.
    #[serde(default)]
    pub strategy_reason: Option<String>,
    /// `auto` was asked for: what would freeze the workload for longer than it bears is refused before the freeze.
    #[serde(default)]
    pub auto: bool,
    /// Who asked for it: `policy` or `user`.
    pub asked_by: String,
    /// The decision that it carries out.
    pub decision: Uuid,
    /// Where it stands.
    pub phase: Phase,
    /// Why it was rolled back or failed.
    pub cause: Option<Cause>,
    /// A person's word on which end keeps the workload, where one was needed.
    #[serde(default)]
    pub resolution: Option<Resolution>,
    /// The freeze at the source, by the orchestrator's clock: the container's last state there. When the source's copy is
    /// kept after the commit, what happened since is lost.
    #[serde(default)]
    pub frozen_at: Option<Timestamp>,
    /// What is going on in the current phase, while it runs.
    pub progress: Option<StageProgress>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When nothing more happened.
    pub finished_at: Option<Timestamp>,
    /// Each phase with the moment it began, in order.
    pub phases: Vec<PhaseEntry>,
    /// When each step was answered, by the orchestrator's clock.
    pub answered: BTreeMap<Step, Timestamp>,
    /// How long each stage took, in milliseconds; those that are over, while it runs.
    pub stages_ms: BTreeMap<Stage, f64>,
    /// Bytes that travelled in each stage; those that are over, while it runs.
    #[serde(default)]
    pub stages_bytes: BTreeMap<Stage, u64>,
    /// What becomes of its TCP connections, once the destination has said so.
    #[serde(default)]
    pub connections: Option<Connections>,
    /// Size of CRIU's images.
    pub checkpoint_bytes: Option<u64>,
    /// Bytes that went from agent to agent.
    pub sent_bytes: Option<u64>,
    /// How memory travelled, where it did so by itself. Its rounds are there as soon as each is over.
    #[serde(default)]
    pub memory: Option<MemoryReport>,
    /// From the freeze on the source to the first instruction on the destination; an upper bound, too long by at most
    /// two one-way trips between agent and orchestrator (no two clocks are compared).
    pub downtime_ms: Option<f64>,
}

impl Migration {
    /// Takes up what a step reports of memory. What travelled after the commit is reported by the last step, which knows
    /// nothing of the rounds before.
    pub fn remember(&mut self, report: Option<MemoryReport>) {
        let Some(mut report) = report else { return };
        // What has rounds knows everything; the record has had them from its progress.
        if let Some(before) = self.memory.take().filter(|_| report.rounds.is_empty()) {
            let later = report.frozen_sent_bytes.saturating_sub(before.frozen_sent_bytes);
            self.sent_bytes = self.sent_bytes.map(|sent| sent + later);
            report.rounds = before.rounds;
            report.dirty_bytes_per_s = before.dirty_bytes_per_s;
        }
        if report.drain_ms.is_some() {
            self.stages_bytes.insert(Stage::Drain, report.frozen_sent_bytes);
        }
        self.memory = Some(report);
    }

    /// Takes up what a running step has finished. Whether a round is among it that the record did not have.
    pub fn take_up(&mut self, finished: Finished) -> bool {
        self.stages_ms.extend(finished.stages_ms);
        self.stages_bytes.extend(finished.stages_bytes);
        let known = self.memory.as_ref().map_or(0, |memory| memory.rounds.len());
        let more = finished.rounds.len() > known;
        if more {
            let memory = self.memory.get_or_insert_default();
            memory.dirty_bytes_per_s = crate::agent::dirty_bytes_per_s(&finished.rounds);
            memory.rounds = finished.rounds;
        }
        more
    }
}

/// A phase and when it began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PhaseEntry {
    /// The phase.
    pub phase: Phase,
    /// Its beginning, by the orchestrator's clock.
    pub at: Timestamp,
}

/// How far the running stage has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StageProgress {
    /// The stage.
    pub stage: Stage,
    /// Bytes so far.
    pub bytes: u64,
    /// Bytes in all, once known.
    pub bytes_total: Option<u64>,
    /// Bytes still to come, once the whole is known.
    #[serde(default)]
    pub remaining_bytes: Option<u64>,
    /// Which round over the running container's memory this is, from 1; `None` outside of the stage `pre-copy`.
    #[serde(default)]
    pub round: Option<u32>,
    /// Bytes a second, lately; `None` until two reports have come.
    #[serde(default)]
    pub rate_bytes_per_s: Option<f64>,
    /// Seconds until this stage is done at that rate; `None` where the rate or the whole is not known.
    #[serde(default)]
    pub eta_s: Option<f64>,
}

/// A line that the orchestrator or one of the two agents logged about a migration: `GET /v1/migrations/{id}/log`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    /// When.
    pub at: Timestamp,
    /// `error`, `warn`, `info` or `debug`.
    pub level: String,
    /// Whose agent said it; `null`: the orchestrator.
    #[serde(default)]
    pub node: Option<String>,
    /// The text, with its fields behind it.
    pub message: String,
}

/// Why a migration did not end as asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Cause {
    /// The step that failed, if it was one.
    pub step: Option<Step>,
    /// The node where it failed, if it was one.
    pub node: Option<String>,
    /// One sentence for people.
    pub message: String,
    /// The last lines of the log that shows it.
    #[serde(default)]
    pub log: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::MemoryRound;

    fn migration() -> Migration {
        serde_json::from_value(serde_json::json!({
            "id": Uuid::nil(), "workload": "web", "source": "A", "destination": "B", "strategy": "hybrid",
            "asked_by": "user", "decision": Uuid::nil(), "phase": "moving", "cause": null, "progress": null,
            "created_at": "2026-01-01T00:00:00Z", "finished_at": null, "phases": [], "answered": {}, "stages_ms": {},
            "checkpoint_bytes": null, "sent_bytes": null, "downtime_ms": null
        }))
        .expect("a record of before")
    }

    fn round(mebibytes: u64, took_ms: f64) -> MemoryRound {
        MemoryRound { content_bytes: mebibytes << 20, sent_bytes: mebibytes << 20, took_ms }
    }

    #[test]
    fn rounds_come_one_by_one_and_count_once() {
        let mut record = migration();
        let finished = |rounds: &[MemoryRound]| Finished { rounds: rounds.to_vec(), ..Finished::default() };
        let rounds = [round(100, 1000.0), round(20, 1000.0)];
        assert!(!record.take_up(finished(&[])));
        assert!(record.take_up(finished(&rounds[..1])));
        assert_eq!(record.memory.as_ref().and_then(|memory| memory.dirty_bytes_per_s), None);
        assert!(!record.take_up(finished(&rounds[..1])), "it is known");
        assert!(record.take_up(finished(&rounds)), "the one before was lost, or not");
        assert_eq!(record.memory.as_ref().and_then(|memory| memory.dirty_bytes_per_s), Some(20 << 20));
        assert!(!record.take_up(finished(&rounds[..1])), "a late one");
        assert_eq!(record.memory.as_ref().map(|memory| memory.rounds.len()), Some(2));

        // What `ship` reports holds the rounds; what `discard` reports holds only what travelled after the commit.
        record.sent_bytes = Some(150 << 20);
        let shipped = MemoryReport { rounds: rounds.to_vec(), frozen_sent_bytes: 1 << 20, ..MemoryReport::default() };
        record.remember(Some(shipped));
        assert_eq!(record.sent_bytes, Some(150 << 20));
        let drained = MemoryReport { frozen_sent_bytes: 5 << 20, drain_ms: Some(9.0), ..MemoryReport::default() };
        record.remember(Some(drained));
        assert_eq!(record.sent_bytes, Some(154 << 20));
        assert_eq!(record.memory.as_ref().map(|memory| memory.rounds.len()), Some(2));
        assert_eq!(record.stages_bytes.get(&Stage::Drain), Some(&(5 << 20)));
    }
}
