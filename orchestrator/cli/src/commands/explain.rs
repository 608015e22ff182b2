//! `fogctl explain`: why it happened and how it went.

use fog_api::client::ClientError;
use fog_api::decision::Decision;
use fog_api::migration::Migration;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::resolve;
use crate::exit::{Exit, Failure};
use crate::render::paint::Paint;
use crate::render::{decision, migration, units};
use crate::session::Session;

/// The two objects of the API that belong together.
#[derive(Serialize)]
struct Explanation {
    migration: Migration,
    decision: Option<Decision>,
}

pub(super) async fn run(session: &Session, meant: &str) -> Result<Exit, Failure> {
    let client = session.reader()?;
    let migration = resolve::migration(&client, meant).await?;
    let decision = match client.decision(migration.decision).await {
        Ok(decision) => Some(decision),
        Err(ClientError::Problem(problem)) if problem.status == 404 => None, // too old to be kept
        Err(error) => return Err(error.into()),
    };
    let explanation = Explanation { migration, decision };
    session.result(&explanation, |paint| people(&explanation, paint))?;
    Ok(Exit::Done)
}

fn people(explanation: &Explanation, paint: Paint) -> String {
    let Explanation { migration, decision } = explanation;
    let (now, zone) = (Timestamp::now(), TimeZone::system());
    let begun = format!(
        "{}, begun {} ({})",
        migration.id,
        units::moment(migration.created_at, &zone),
        units::ago(migration.created_at, now)
    );
    let mut parts = vec![format!("{}\n{}\n", migration::headline(migration, paint), paint.quiet(&begun))];
    if let Some(cause) = &migration.cause {
        parts.push(migration::cause(cause, migration.phase, paint));
    }
    parts.extend(migration::resolution(migration, &zone, paint));
    parts.push(match decision {
        Some(decision) => decision::explain(decision, paint),
        None => "Its decision is no longer kept.\n".to_owned(),
    });
    parts.push(migration::course(migration, now, &zone, paint));
    parts.join("\n")
}
