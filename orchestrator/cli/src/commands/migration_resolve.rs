//! `fogctl migration resolve`: a person's word on which end keeps the workload.

use fog_api::migration::{Keep, Migration, ResolveRequest};

use super::resolve;
use crate::arguments::{KeepName, Resolve};
use crate::exit::{Exit, Failure};
use crate::render::migration;
use crate::render::text::{clean, short};
use crate::session::Session;

pub(super) async fn run(session: &Session, asked: &Resolve) -> Result<Exit, Failure> {
    let client = session.writer()?;
    let meant = resolve::migration(&client, &asked.migration).await?;
    let keep = match asked.keep {
        KeepName::Source => Keep::Source,
        KeepName::Destination => Keep::Destination,
    };
    let word = ResolveRequest { keep, destination_is_gone: asked.destination_is_gone };
    let resolved = client.resolve(meant.id, &word, asked.dry_run).await?;
    session.result(&resolved, |paint| {
        let says = if asked.dry_run { "That is possible: " } else { "" };
        let what = what(&resolved, &word);
        let id = short(resolved.id);
        format!("{}\n{says}{what}\nHow it stands: fogctl explain {id}\n", migration::headline(&resolved, paint))
    })?;
    Ok(Exit::Done)
}

fn what(migration: &Migration, word: &ResolveRequest) -> String {
    let (name, from, to) = (clean(&migration.workload), clean(&migration.source), clean(&migration.destination));
    match (word.keep, word.destination_is_gone) {
        (Keep::Source, false) => {
            format!("{to} gives its copy of {name} up, then {from} goes on with its own, as of the freeze.")
        }
        (Keep::Source, true) => {
            format!("{from} goes on with its copy of {name}, as of the freeze; {to} counts as gone.")
        }
        (Keep::Destination, _) => {
            format!("{to} keeps {name}, started anew if it does not run; then {from} removes its frozen copy.")
        }
    }
}
