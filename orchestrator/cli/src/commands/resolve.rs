//! Which migration a person means.

use fog_api::client::{Client, MigrationFilter};
use fog_api::migration::Migration;
use uuid::Uuid;

use crate::exit::{Exit, Failure};
use crate::render::text::{clean, short};

/// As far back as a list goes.
const NEWEST: u32 = 1000;

/// By id, by the beginning of an id, by a workload's name (its latest), or `last`.
pub(super) async fn migration(client: &Client, meant: &str) -> Result<Migration, Failure> {
    if let Ok(id) = meant.parse::<Uuid>() {
        return Ok(client.migration(id).await?);
    }
    let newest = |workload: Option<&str>, limit| {
        let filter = MigrationFilter { workload: workload.map(str::to_owned), limit: Some(limit) };
        async move { client.migrations(&filter).await.map(|list| list.items) }
    };
    if meant == "last" {
        let none = Failure::new(Exit::Failed, "nothing has been migrated yet").hint("Begin with: fogctl migrate NAME");
        return newest(None, 1).await?.into_iter().next().ok_or(none);
    }
    if let Some(migration) = newest(Some(meant), 1).await?.into_iter().next() {
        return Ok(migration);
    }
    by_prefix(newest(None, NEWEST).await?, meant)
}

fn by_prefix(migrations: Vec<Migration>, meant: &str) -> Result<Migration, Failure> {
    let prefix = meant.to_ascii_lowercase();
    let is_prefix = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    let mut matching: Vec<Migration> =
        migrations.into_iter().filter(|migration| is_prefix && migration.id.to_string().starts_with(&prefix)).collect();
    match matching.len() {
        1 => Ok(matching.remove(0)),
        0 => Err(Failure::new(Exit::Failed, format!("no migration is meant by {:?}", clean(meant)))
            .hint("Give an id or the beginning of it, a workload's name, or `last`; fogctl migrations lists them.")),
        many => {
            let few: Vec<String> = matching.iter().take(5).map(|migration| migration.id.to_string()).collect();
            let more = if many > few.len() { " …" } else { "" };
            Err(Failure::new(Exit::Failed, format!("{many} migrations begin with {meant}"))
                .hint(format!("{}{more}", few.join(" "))))
        }
    }
}

/// The command that stops it.
pub(super) fn how_to_cancel(migration: &Migration) -> String {
    format!("fogctl cancel {}", short(migration.id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::migration::tests::example;

    fn migrations(ids: &[&str]) -> Vec<Migration> {
        ids.iter().map(|id| Migration { id: id.parse().unwrap(), ..example() }).collect()
    }

    const FIRST: &str = "019aaf31-5c2e-7000-8000-000000000000";
    const SECOND: &str = "019aaf31-5c2f-7000-8000-000000000000";

    #[test]
    fn a_prefix_must_be_unique() {
        let found = by_prefix(migrations(&[FIRST, SECOND]), "019AAF31-5C2F").unwrap();
        assert_eq!(found.id.to_string(), SECOND);
        let ambiguous = by_prefix(migrations(&[FIRST, SECOND]), "019a").unwrap_err();
        assert!(ambiguous.what.starts_with("2 migrations") && ambiguous.hints[0].contains(SECOND));
    }

    #[test]
    fn what_is_no_prefix_is_not_found() {
        for meant in ["", "looper", "ffff"] {
            assert!(by_prefix(migrations(&[FIRST]), meant).unwrap_err().what.starts_with("no migration"));
        }
    }
}
