//! `fogctl migrate`

use std::time::Instant;

use fog_api::client::{Client, Waited};
use fog_api::migration::{Migration, MigrationRequest, Phase};

use super::progress::Progress;
use super::resolve::how_to_cancel;
use crate::arguments::Migrate;
use crate::exit::{Exit, Failure};
use crate::render::text::{clean, short};
use crate::render::{migration, units};
use crate::session::Session;

pub(super) async fn run(session: &Session, arguments: Migrate) -> Result<Exit, Failure> {
    let client = session.writer()?;
    let request = MigrationRequest {
        workload: arguments.workload,
        destination: arguments.to,
        strategy: arguments.strategy.into(),
    };
    if arguments.dry_run {
        let would = client.try_migrate(&request).await?;
        session.result(&would, |_| {
            let to = would.destination.as_deref().unwrap_or("nowhere");
            let (workload, from, to) = (clean(&would.workload), clean(&would.source), clean(to));
            format!("{workload} would move from {from} to {to}: {}\n", clean(&would.reason))
        })?;
        return Ok(Exit::Done);
    }
    let begun = client.migrate(&request).await?;
    if arguments.wait {
        return wait(session, &client, begun, Instant::now() + arguments.timeout).await;
    }
    session.result(&begun, |paint| format!("{}\n", migration::headline(&begun, paint)))?;
    if !session.wants_json() {
        eprintln!("It goes on by itself; how it stands: fogctl explain {}", short(begun.id));
    }
    Ok(Exit::Done)
}

async fn wait(session: &Session, client: &Client, begun: Migration, deadline: Instant) -> Result<Exit, Failure> {
    let mut progress = Progress::new(&begun, session.paint_stderr());
    let waited = tokio::select! {
        waited = client.wait_for_migration(begun.id, deadline, |update| progress.update(&update)) => waited,
        _ = tokio::signal::ctrl_c() => {
            progress.finish();
            eprintln!("No longer waiting; the migration goes on. To stop it: {}", how_to_cancel(&begun));
            return Ok(Exit::Interrupted);
        }
    };
    progress.finish();
    match waited? {
        Waited::Over(over) => end(session, &over),
        Waited::TimedOut(last) => {
            let last = last.unwrap_or(begun);
            if session.wants_json() {
                session.result(&last, |_| String::new())?;
            }
            Err(Failure::new(Exit::TimedOut, format!("timed out while the migration was {}; it goes on", last.phase))
                .hint(format!(
                    "How it stands: fogctl explain {}. To stop it: {}",
                    short(last.id),
                    how_to_cancel(&last)
                )))
        }
    }
}

fn end(session: &Session, over: &Migration) -> Result<Exit, Failure> {
    session.result(over, |paint| {
        let took = over.finished_at.map(|at| units::milliseconds(units::between(over.created_at, at)));
        let mut facts: Vec<String> = took.map(|took| format!("took {took}")).into_iter().collect();
        facts.extend(over.downtime_ms.map(|ms| format!("downtime at most {}", units::milliseconds(ms))));
        facts.extend(over.checkpoint_bytes.map(|bytes| format!("checkpoint {}", units::bytes(bytes))));
        facts.extend(over.sent_bytes.map(|bytes| format!("sent {}", units::bytes(bytes))));
        format!("{}\n{}\n", migration::headline(over, paint), facts.join(", "))
    })?;
    if over.phase == Phase::Done {
        return Ok(Exit::Done);
    }
    if let Some(cause) = &over.cause {
        eprint!("{}", migration::cause(cause, over.phase, session.paint_stderr()));
    }
    let what = match over.phase {
        Phase::RolledBack => {
            format!("{} was not moved; it runs on {} as before", clean(&over.workload), clean(&over.source))
        }
        _ => format!("the migration of {} failed and needs a person", clean(&over.workload)),
    };
    Err(Failure::new(Exit::Failed, what).hint(format!("More: fogctl explain {}", short(over.id))))
}
