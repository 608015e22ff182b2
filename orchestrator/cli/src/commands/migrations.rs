//! `fogctl migrations`

use fog_api::client::MigrationFilter;
use jiff::Timestamp;

use crate::exit::{Exit, Failure};
use crate::render::migration;
use crate::session::Session;

pub(super) async fn run(session: &Session, workload: Option<String>, limit: u32) -> Result<Exit, Failure> {
    let filter = MigrationFilter { workload, limit: Some(limit) };
    let migrations = session.reader()?.migrations(&filter).await?;
    session.result(&migrations, |paint| migration::list(&migrations.items, Timestamp::now()).render(paint, ""))?;
    if migrations.items.is_empty() {
        eprintln!("Nothing has been migrated yet.");
    }
    Ok(Exit::Done)
}
