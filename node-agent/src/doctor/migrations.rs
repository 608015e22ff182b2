//! Containers of this node that a migration has frozen and that wait for a word.

use fog_api::agent::Role;

use super::Check;
use crate::config::Config;
use crate::journal::Journal;

const NAME: &str = "frozen containers";

/// One line for each; one in all when there is none.
pub(super) fn checks(config: &Config) -> Vec<Check> {
    let folder = config.state_dir.join("migrations");
    if !folder.is_dir() {
        return vec![Check::ok(NAME, "none")];
    }
    let journal = match Journal::open(&folder) {
        Ok(journal) => journal,
        Err(error) => {
            return vec![Check::warn(
                NAME,
                error.to_string(),
                "restore the file, or remove it if its container is whole",
            )];
        }
    };
    let frozen = journal.iter().filter(|record| record.role == Role::Source && record.froze && !record.closed);
    let lines: Vec<Check> = frozen
        .map(|record| {
            let said = record.peer.as_deref().unwrap_or("it waits for the orchestrator's word");
            let found = format!("{} (migration {}): {said}", record.workload, record.migration);
            Check::warn(NAME, found, format!("fogctl explain {}", record.migration))
        })
        .collect();
    if lines.is_empty() { vec![Check::ok(NAME, "none")] } else { lines }
}
