//! `fogctl version`

use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::session::Session;

#[derive(Serialize)]
struct Version<'a> {
    fogctl: &'static str,
    url: &'a str,
    ready: bool,
}

pub(super) async fn run(session: &Session) -> Result<Exit, Failure> {
    let ready = async { session.reader()?.ready().await }.await;
    let version = Version { fogctl: env!("CARGO_PKG_VERSION"), url: session.url(), ready: ready.is_ok() };
    session.result(&version, |_| {
        let state = if version.ready { "ready" } else { "not ready" };
        format!("fogctl {}\norchestrator at {}: {state}\n", version.fogctl, version.url)
    })?;
    ready?;
    Ok(Exit::Done)
}
