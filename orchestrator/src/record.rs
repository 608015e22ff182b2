//! fog-core's words into fog-api's: the two never meet elsewhere.

use fog_api::agent::MemoryReport;
use fog_api::{agent, decision, migration as wire};
use fog_core::migration as core;
use fog_core::model::{Earlier, NodeName};
use fog_core::plan::{Candidate, Migrate, Resize, Verdict};
use fog_core::strategy::Strategy;
use jiff::Timestamp;
use uuid::Uuid;

/// Who asked for a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskedBy {
    /// The planner.
    Policy,
    /// A person.
    User,
}

impl AskedBy {
    fn word(self) -> String {
        match self {
            AskedBy::Policy => "policy",
            AskedBy::User => "user",
        }
        .to_owned()
    }
}

/// The decision behind a planned move.
pub fn decision(
    migrate: &Migrate,
    asked_by: AskedBy,
    migration: Option<Uuid>,
    policy_version: u64,
    now: Timestamp,
) -> decision::Decision {
    decision::Decision {
        id: Uuid::now_v7(),
        at: now,
        asked_by: asked_by.word(),
        workload: migrate.workload.to_string(),
        source: migrate.from.to_string(),
        destination: Some(migrate.to.to_string()),
        reason: migrate.reason.clone(),
        policy_version,
        migration,
        trigger: Some(name_of(&migrate.trigger)),
        strategy_reason: Some(migrate.strategy_reason.clone()),
        gain: Some(migrate.gain),
        benefit_s: Some(migrate.benefit_s),
        cost_s: migrate.cost_s,
        expected_downtime_ms: migrate.expected.downtime_ms,
        expected_bytes: Some(migrate.expected.bytes),
        candidates: migrate.candidates.iter().map(candidate).collect(),
        omitted: migrate.omitted,
        kind: decision::Kind::Migrate,
        status: decision::Status::Begun,
        limits: None,
        answered_at: None,
    }
}

/// What a migration that went well took, for predicting the next one.
pub fn earlier(migration: &wire::Migration) -> Option<Earlier> {
    // Where a person had to say how it ends, the time says nothing.
    let memory = migration.memory.as_ref().filter(|_| migration.resolution.is_none());
    let downtime_ms = migration.downtime_ms.filter(|ms| *ms > 0.0 && migration.resolution.is_none());
    Some(Earlier {
        from: NodeName::new(migration.source.as_str()).ok()?,
        to: NodeName::new(migration.destination.as_str()).ok()?,
        strategy: Some(asked_strategy(migration.strategy)).filter(|strategy| *strategy != Strategy::Auto)?,
        memory_bytes: memory.map(|memory| memory.frozen_total_bytes).or(migration.checkpoint_bytes)?,
        bytes: memory.map(MemoryReport::sent_bytes).or(migration.checkpoint_bytes)?,
        downtime_ms: downtime_ms?,
    })
}

/// The decision behind a planned resize.
pub fn resize_decision(resize: &Resize, policy_version: u64, now: Timestamp) -> decision::Decision {
    decision::Decision {
        id: Uuid::now_v7(),
        at: now,
        asked_by: AskedBy::Policy.word(),
        workload: resize.workload.to_string(),
        source: resize.node.to_string(),
        destination: None,
        reason: resize.reason.clone(),
        policy_version,
        migration: None,
        trigger: None,
        strategy_reason: None,
        gain: None,
        benefit_s: None,
        cost_s: None,
        expected_downtime_ms: None,
        expected_bytes: None,
        candidates: Vec::new(),
        omitted: 0,
        kind: decision::Kind::Resize,
        status: decision::Status::Begun,
        limits: Some(decision::LimitsChange { from: limits(resize.from), to: limits(resize.to) }),
        answered_at: None,
    }
}

/// Limits for people.
pub fn limits(limits: fog_core::model::Limits) -> decision::Limits {
    decision::Limits { cpus: limits.cpus, memory_bytes: limits.memory_bytes }
}

fn candidate(candidate: &Candidate) -> decision::Candidate {
    decision::Candidate {
        node: candidate.node.to_string(),
        verdict: match candidate.verdict {
            Verdict::Chosen => decision::Verdict::Chosen,
            Verdict::Rejected => decision::Verdict::Rejected,
            Verdict::Infeasible => decision::Verdict::Infeasible,
        },
        score: candidate.score,
        factors: candidate
            .factors
            .iter()
            .map(|(name, factor)| {
                let factor = decision::Factor {
                    value: factor.raw,
                    unit: factor.unit.to_string(),
                    normalised: factor.value,
                    weight: factor.weight,
                    contribution: factor.contribution,
                };
                (name.as_str().to_owned(), factor)
            })
            .collect(),
        penalties: candidate
            .penalties
            .iter()
            .map(|penalty| decision::Penalty { constraint: penalty.constraint.clone(), weight: penalty.weight })
            .collect(),
        reason: candidate.reason.clone(),
        reasons: candidate
            .reasons
            .iter()
            .map(|reason| decision::Reason { code: name_of(&reason.code), detail: reason.detail.clone() })
            .collect(),
    }
}

/// The word that a plain enumeration has in JSON.
fn name_of<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// A new migration's record.
pub fn migration(id: Uuid, decision: &decision::Decision, migrate: &Migrate, now: Timestamp) -> wire::Migration {
    wire::Migration {
        id,
        workload: migrate.workload.to_string(),
        source: migrate.from.to_string(),
        destination: migrate.to.to_string(),
        strategy: strategy(migrate.strategy),
        strategy_reason: Some(migrate.strategy_reason.clone()),
        auto: !migrate.strategy_asked,
        asked_by: decision.asked_by.clone(),
        decision: decision.id,
        phase: wire::Phase::Inspecting,
        cause: None,
        resolution: None,
        frozen_at: None,
        progress: None,
        created_at: now,
        finished_at: None,
        phases: vec![wire::PhaseEntry { phase: wire::Phase::Inspecting, at: now }],
        answered: std::collections::BTreeMap::new(),
        stages_ms: std::collections::BTreeMap::new(),
        stages_bytes: std::collections::BTreeMap::new(),
        connections: None,
        checkpoint_bytes: None,
        sent_bytes: None,
        memory: None,
        downtime_ms: None,
    }
}

/// A strategy for people.
pub fn strategy(strategy: Strategy) -> wire::Strategy {
    match strategy {
        Strategy::Auto => wire::Strategy::Auto,
        Strategy::StopAndCopy => wire::Strategy::StopAndCopy,
        Strategy::PreCopy => wire::Strategy::PreCopy,
        Strategy::PostCopy => wire::Strategy::PostCopy,
        Strategy::Hybrid => wire::Strategy::Hybrid,
    }
}

/// A strategy that was asked for.
pub fn asked_strategy(strategy: wire::Strategy) -> Strategy {
    match strategy {
        wire::Strategy::Auto => Strategy::Auto,
        wire::Strategy::StopAndCopy => Strategy::StopAndCopy,
        wire::Strategy::PreCopy => Strategy::PreCopy,
        wire::Strategy::PostCopy => Strategy::PostCopy,
        wire::Strategy::Hybrid => Strategy::Hybrid,
    }
}

/// A phase for people.
pub fn phase(phase: core::Phase) -> wire::Phase {
    match phase {
        core::Phase::Inspecting => wire::Phase::Inspecting,
        core::Phase::Reserving => wire::Phase::Reserving,
        core::Phase::Moving => wire::Phase::Moving,
        core::Phase::Committing => wire::Phase::Committing,
        core::Phase::Resuming => wire::Phase::Resuming,
        core::Phase::Discarding => wire::Phase::Discarding,
        core::Phase::Done => wire::Phase::Done,
        core::Phase::RollingBack => wire::Phase::RollingBack,
        core::Phase::RolledBack => wire::Phase::RolledBack,
        core::Phase::Failed => wire::Phase::Failed,
    }
}

/// A step for an agent.
pub fn step(step: core::Step) -> agent::Step {
    match step {
        core::Step::Inspect => agent::Step::Inspect,
        core::Step::Reserve => agent::Step::Reserve,
        core::Step::Ship => agent::Step::Ship,
        core::Step::Restore => agent::Step::Restore,
        core::Step::Resume => agent::Step::Resume,
        core::Step::Discard => agent::Step::Discard,
        core::Step::Settle => agent::Step::Settle,
        core::Step::Thaw => agent::Step::Thaw,
        core::Step::Abandon => agent::Step::Abandon,
    }
}

/// A step that an agent answered.
pub fn answered_step(step: agent::Step) -> core::Step {
    match step {
        agent::Step::Inspect => core::Step::Inspect,
        agent::Step::Reserve => core::Step::Reserve,
        agent::Step::Ship => core::Step::Ship,
        agent::Step::Restore => core::Step::Restore,
        agent::Step::Resume => core::Step::Resume,
        agent::Step::Discard => core::Step::Discard,
        agent::Step::Settle => core::Step::Settle,
        agent::Step::Thaw => core::Step::Thaw,
        agent::Step::Abandon => core::Step::Abandon,
    }
}

/// A failure that an agent reported.
pub fn failure(failure: agent::Failure) -> core::Failure {
    let kind = match failure.kind {
        agent::FailureKind::Gone => core::FailureKind::Gone,
        agent::FailureKind::Transfer => core::FailureKind::Stream,
        agent::FailureKind::Cancelled => core::FailureKind::Cancelled,
        agent::FailureKind::Lost => core::FailureKind::Lost,
        agent::FailureKind::Refused
        | agent::FailureKind::Stale
        | agent::FailureKind::Interrupted
        | agent::FailureKind::Runtime
        | agent::FailureKind::Node => core::FailureKind::Other,
    };
    core::Failure { kind, message: failure.message, log: failure.log }
}

/// A cause for people: with the node's name.
pub fn cause(cause: &core::Cause, source: &str, destination: &str) -> wire::Cause {
    let node = cause.step.map(|step| match step.role() {
        core::Role::Source => source.to_owned(),
        core::Role::Destination => destination.to_owned(),
    });
    wire::Cause { step: cause.step.map(step), node, message: cause.message.clone(), log: cause.log.clone() }
}

/// A person's word for the protocol.
pub fn word(asked: &wire::ResolveRequest, by: String) -> core::Resolve {
    let keep = match asked.keep {
        wire::Keep::Source => core::Role::Source,
        wire::Keep::Destination => core::Role::Destination,
    };
    core::Resolve { keep, destination_is_gone: asked.destination_is_gone, by }
}

/// A person's word for people; `before`: what was known of it.
pub fn resolution(taken: &core::Resolution, before: Option<&wire::Resolution>, now: Timestamp) -> wire::Resolution {
    let keep = match taken.keep {
        core::Role::Source => wire::Keep::Source,
        core::Role::Destination => wire::Keep::Destination,
    };
    let known =
        wire::Resolution { keep, by: taken.by.clone(), at: now, destination_is_gone: taken.destination_is_gone };
    let at = before.filter(|before| wire::Resolution { at: now, ..(*before).clone() } == known).map_or(now, |b| b.at);
    wire::Resolution { at, ..known }
}
