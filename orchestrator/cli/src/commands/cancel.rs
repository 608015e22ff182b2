//! `fogctl cancel`

use super::resolve;
use crate::exit::{Exit, Failure};
use crate::render::migration;
use crate::render::text::short;
use crate::session::Session;

pub(super) async fn run(session: &Session, meant: &str) -> Result<Exit, Failure> {
    let client = session.writer()?;
    let meant = resolve::migration(&client, meant).await?;
    let cancelled = client.cancel(meant.id).await?;
    session.result(&cancelled, |paint| {
        let id = short(cancelled.id);
        format!("{}\nAsked to roll back; how it ends: fogctl explain {id}\n", migration::headline(&cancelled, paint))
    })?;
    Ok(Exit::Done)
}
