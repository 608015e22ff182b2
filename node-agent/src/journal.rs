//! What this node remembers of each migration across a restart of the agent.
//!
//! One JSON file a migration, written whole to a temporary file, synced, renamed, and the folder
//! synced: after a crash there is the old state or the new one. No secret is ever in here: tickets
//! and container configurations stay in memory.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use fog_api::agent::{Answer, CommandKey, Outcome, Role, Step};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// Finished migrations that are kept so that a repeated command still gets its answer.
const KEPT_CLOSED: usize = 256;

/// A process, told apart from a later one with the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Its id, which is also its group's.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub started: u64,
}

/// One migration as this node took part in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The migration.
    pub migration: Uuid,
    /// The container's name.
    pub workload: String,
    /// Which end this node is.
    pub role: Role,
    /// Docker's id of this node's container.
    pub container: Option<String>,
    /// The restart policy to give back.
    pub restart_policy: Option<Value>,
    /// Source: the Docker daemon that the policy was taken from, see `runtime::Docker::daemon`.
    #[serde(default)]
    pub daemon: Option<String>,
    /// This node froze the container, or was about to.
    pub froze: bool,
    /// This node closed the container's network, or was about to; it opens with the container.
    #[serde(default)]
    pub closed_network: bool,
    /// The dump that runs, or was about to end.
    pub checkpoint: Option<ProcessIdentity>,
    /// Tasks, by their ids inside the container, that were already stopped when they were dumped.
    pub stopped_tasks: Vec<i32>,
    /// Source: the frozen tasks have a stop signal pending, or were about to: whoever thaws them does not let them run.
    #[serde(default)]
    pub held: bool,
    /// Destination: the tasks were continued. From then on the container is an ordinary one.
    pub resumed: bool,
    /// Named volumes that this migration made at the destination, or moves away from the source.
    #[serde(default)]
    pub volumes: Vec<String>,
    /// Folders of the host that this migration fills at the destination, or moves away from the source.
    #[serde(default)]
    pub folders: Vec<PathBuf>,
    /// Destination: folders that did not exist before.
    #[serde(default)]
    pub made: Vec<PathBuf>,
    /// Memory travels after the commit and is not known to be whole at the destination.
    #[serde(default)]
    pub memory_pending: bool,
    /// Destination: all of that memory is here. Written before the source may hear so, which then removes its copy.
    #[serde(default)]
    pub memory_came: bool,
    /// Source: what the destination said, or did not say, while the orchestrator was away.
    #[serde(default)]
    pub peer: Option<String>,
    /// Steps that were begun, with the epoch.
    pub begun: Vec<(Step, u64)>,
    /// Answers that were given.
    pub answers: Vec<Answer>,
    /// Nothing of this migration is left on this node and no further step is welcome.
    pub closed: bool,
    /// When this was written.
    pub written: Timestamp,
}

impl Record {
    /// A migration nothing has been done for.
    pub fn new(migration: Uuid, workload: &str, role: Role) -> Record {
        Record {
            migration,
            workload: workload.to_owned(),
            role,
            container: None,
            restart_policy: None,
            daemon: None,
            froze: false,
            closed_network: false,
            checkpoint: None,
            stopped_tasks: Vec::new(),
            held: false,
            resumed: false,
            volumes: Vec::new(),
            folders: Vec::new(),
            made: Vec::new(),
            memory_pending: false,
            memory_came: false,
            peer: None,
            begun: Vec::new(),
            answers: Vec::new(),
            closed: false,
            written: Timestamp::UNIX_EPOCH,
        }
    }

    /// The answer that was given to this command.
    pub fn answer(&self, key: CommandKey) -> Option<&Answer> {
        self.answers.iter().find(|answer| answer.key == key)
    }

    /// Whether an order of this epoch carries a person's word: it belongs to the second epoch after the one that the migration
    /// began with. The commit's own steps belong to the first.
    pub fn is_a_persons_word(&self, epoch: u64) -> bool {
        let first = self.begun.iter().map(|(_, begun)| *begun).min();
        first.is_some_and(|first| epoch >= first + 2)
    }

    /// Whether this step was begun under any epoch.
    pub fn has_begun(&self, step: Step) -> bool {
        self.begun.iter().any(|(begun, _)| *begun == step)
    }
}

/// Writes a file that only root may read.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(content)
}

/// The records of all migrations, on disk and in memory.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    records: BTreeMap<Uuid, Record>,
}

impl Journal {
    /// Reads what is there. A file that does not parse stops the start: guessing could lose a container.
    pub fn open(folder: &Path) -> io::Result<Journal> {
        create_private_folder(folder)?;
        let mut records = BTreeMap::new();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let record: Record = serde_json::from_slice(&std::fs::read(&path)?)
                .map_err(|error| io::Error::other(format!("{} is damaged: {error}", path.display())))?;
            records.insert(record.migration, record);
        }
        Ok(Journal { folder: folder.to_owned(), records })
    }

    /// The record of a migration.
    pub fn get(&self, migration: Uuid) -> Option<&Record> {
        self.records.get(&migration)
    }

    /// All records.
    pub fn iter(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// Stores a record durably; returns when it is on disk. Closed records beyond the bound are forgotten, oldest first.
    pub fn put(&mut self, mut record: Record) -> io::Result<()> {
        for answer in &mut record.answers {
            if let Outcome::Done(report) = &mut answer.outcome {
                report.specification = None;
            }
        }
        record.written = Timestamp::now();
        write_durably(&self.file(record.migration), &serde_json::to_vec_pretty(&record)?)?;
        let closed = record.closed;
        self.records.insert(record.migration, record);
        if closed { self.forget_oldest() } else { Ok(()) }
    }

    fn forget_oldest(&mut self) -> io::Result<()> {
        let mut closed: Vec<_> = self.records.values().filter(|record| record.closed).collect();
        closed.sort_by_key(|record| record.written);
        let surplus = closed.len().saturating_sub(KEPT_CLOSED);
        let forgotten: Vec<_> = closed.into_iter().take(surplus).map(|record| record.migration).collect();
        for migration in forgotten {
            std::fs::remove_file(self.file(migration))?;
            self.records.remove(&migration);
        }
        Ok(())
    }

    fn file(&self, migration: Uuid) -> PathBuf {
        self.folder.join(format!("{migration}.json"))
    }
}

/// Replaces a file so that a crash leaves the old content or the new.
pub fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::other("a file needs a folder"))?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    std::fs::File::open(folder)?.sync_all()
}

/// Makes a folder, and those above it, that only root can look into.
pub fn create_private_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use fog_api::agent::{Report, Specification};

    use super::*;

    #[test]
    fn a_record_survives_a_restart_without_its_secrets() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut journal = Journal::open(folder.path()).expect("open");
        let mut record = Record::new(Uuid::now_v7(), "web", Role::Source);
        let key = CommandKey { migration: record.migration, step: Step::Inspect, epoch: 3 };
        let inspect = serde_json::json!({"Config": {"Env": ["PASSWORD=x"]}});
        let specification = Specification { name: "web".into(), image: "sha256:1".into(), inspect };
        let report = Report { specification: Some(specification), ..Report::default() };
        record.answers.push(Answer { key, outcome: Outcome::Done(report) });
        record.begun.push((Step::Ship, 3));
        journal.put(record.clone()).expect("put");

        let journal = Journal::open(folder.path()).expect("open again");
        let read = journal.get(record.migration).expect("the record");
        assert!(read.has_begun(Step::Ship) && !read.has_begun(Step::Reserve));
        assert!(read.answer(key).is_some());
        let files: Vec<_> = std::fs::read_dir(folder.path()).expect("read").collect();
        assert_eq!(files.len(), 1, "no temporary file is left");
        let text = std::fs::read_to_string(files[0].as_ref().expect("entry").path()).expect("text");
        assert!(!text.contains("PASSWORD"));
    }

    #[test]
    fn the_second_epoch_after_the_first_is_a_persons() {
        let mut record = Record::new(Uuid::now_v7(), "web", Role::Source);
        assert!(!record.is_a_persons_word(9), "nothing was begun here that anybody could decide about");
        record.begun.push((Step::Ship, 3));
        assert_eq!([3, 4, 5].map(|epoch| record.is_a_persons_word(epoch)), [false, false, true]);
    }

    #[test]
    fn closed_records_are_bounded_and_open_ones_are_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut journal = Journal::open(folder.path()).expect("open");
        let open = Record::new(Uuid::now_v7(), "open", Role::Destination);
        journal.put(open.clone()).expect("put");
        let mut first = None;
        for _ in 0..KEPT_CLOSED + 1 {
            let mut record = Record::new(Uuid::now_v7(), "closed", Role::Source);
            record.closed = true;
            first.get_or_insert(record.migration);
            journal.put(record).expect("put");
        }
        assert_eq!(journal.iter().count(), KEPT_CLOSED + 1);
        assert!(journal.get(open.migration).is_some());
        assert!(journal.get(first.expect("one")).is_none());
    }

    #[test]
    fn a_damaged_file_is_not_ignored() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("x.json"), "{").expect("write");
        assert!(Journal::open(folder.path()).is_err_and(|error| error.to_string().contains("x.json is damaged")));
    }
}
