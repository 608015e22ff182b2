//! `fogctl cancel`

use super::resolve;
use crate::exit::{Exit, Failure};
use crate::render::migration;
use crate::render::text::short;
use crate::session::Session;

pub(super) async fn run(session: &Session, meant: &str, dry_run: bool) -> Result<Exit, Failure> {
    let client = session.writer()?;
    let meant = resolve::migration(&client, meant).await?;
    if dry_run {
        let now = client.try_cancel(meant.id).await?;
        session
            .result(&now, |paint| format!("{}\nWould be asked to roll back.\n", migration::headline(&now, paint)))?;
        return Ok(Exit::Done);
    }
    let cancelled = client.cancel(meant.id).await?;
    session.result(&cancelled, |paint| {
        let id = short(cancelled.id);
        format!("{}\nAsked to roll back; how it ends: fogctl explain {id}\n", migration::headline(&cancelled, paint))
    })?;
    Ok(Exit::Done)
}
