//! The policy in force.
//!
//! The newest word counts, whoever said it: a change of the policy file (seen at the start and after a SIGHUP) or a
//! person through the API. Each is a version of its own in the store, so that anybody can see who changed what, and go
//! back. A file that has not changed since it was last adopted does not undo what came through the API.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use fog_api::policy::{PolicyChange, PolicySource, PolicyVersion};
use fog_core::policy::{Policy, PolicyError};
use jiff::Timestamp;
use serde_json::Value;

use crate::store::{Store, StoreError, StoredPolicy};

/// Who the history names for a change of the file.
const FILE_AUTHOR: &str = "policy file";

/// A policy and where it came from.
#[derive(Debug, Clone)]
pub struct InForce {
    /// The policy.
    pub policy: Policy,
    /// Rises with every change.
    pub version: u64,
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// As it was written, in TOML.
    pub text: String,
    /// Its number, author and so on.
    pub about: PolicyVersion,
}

/// Holds the policy in force; readers never wait.
pub struct PolicyHolder {
    now: ArcSwap<InForce>,
    /// The file as it was at the start.
    read_at_start: String,
    /// What is wrong with the file as it is now.
    refused: ArcSwapOption<String>,
    /// Held while the policy changes, so that what is in force is what was stored last.
    changing: tokio::sync::Mutex<()>,
}

/// Why a policy could not be taken into force.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read the policy {file}: {error}")]
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        error: std::io::Error,
    },
    /// The policy says something wrong.
    #[error("{0}")]
    Wrong(#[from] PolicyError),
    /// Somebody else changed it in between.
    #[error("the policy has changed meanwhile: version {newest} is in force, not {expected}")]
    Changed {
        /// The version that the change was meant for.
        expected: u64,
        /// The one in force.
        newest: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn read(file: Option<&Path>) -> Result<(String, Policy), LoadError> {
    let Some(file) = file else { return Ok((String::new(), Policy::default())) };
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|error| LoadError::Unreadable { file: name.clone(), error })?;
    let policy = Policy::parse(&text, &name)?;
    Ok((text, policy))
}

impl PolicyHolder {
    /// Loads the policy file for the start: a bad file stops it.
    pub fn load(file: Option<PathBuf>) -> Result<Self, LoadError> {
        let (text, policy) = read(file.as_deref())?;
        let about = PolicyVersion {
            version: 0,
            at: Timestamp::UNIX_EPOCH,
            by: FILE_AUTHOR.to_owned(),
            source: if file.is_some() { PolicySource::File } else { PolicySource::Default },
            note: None,
        };
        let read_at_start = text.clone();
        let now = ArcSwap::from_pointee(InForce { policy, version: 0, file, text, about });
        Ok(Self { now, read_at_start, refused: ArcSwapOption::empty(), changing: tokio::sync::Mutex::new(()) })
    }

    /// The policy in force now.
    pub fn get(&self) -> Arc<InForce> {
        self.now.load_full()
    }

    /// The file as it was at the start: whoever follows it begins there, not with what it says a moment later.
    pub fn read_at_start(&self) -> &str {
        &self.read_at_start
    }

    /// What is wrong with the file as it is now, if that is why an older policy is in force.
    pub fn refused(&self) -> Option<Arc<String>> {
        self.refused.load_full()
    }

    /// Brings the file that was loaded and the store together, at the start.
    pub async fn settle(&self, store: &Store, now: Timestamp) -> Result<(), LoadError> {
        let _changing = self.changing.lock().await;
        let loaded = self.get();
        let newest = store.newest_policy().await?;
        let file_is_news = store.newest_policy_file().await?.as_ref() != Some(&loaded.text);
        match newest {
            Some(newest) if !file_is_news => match Policy::parse(&newest.text, "stored policy") {
                Ok(policy) => self.put_in_force(policy, newest),
                Err(error) => {
                    tracing::error!(
                        version = newest.version.version,
                        "the newest policy cannot be read by this version, the file's is in force: {error}"
                    );
                    self.adopt_file(store, (*loaded).clone(), now).await.map(drop)?;
                }
            },
            _ => self.adopt_file(store, (*loaded).clone(), now).await.map(drop)?,
        }
        Ok(())
    }

    /// Reads the file again; a bad one leaves the old policy in force. `None`: the file says what it said before.
    pub async fn reload(&self, store: &Store, now: Timestamp) -> Result<Option<u64>, LoadError> {
        let _changing = self.changing.lock().await;
        let old = self.get();
        let (text, policy) = read(old.file.as_deref()).inspect_err(|error| {
            self.refused.store(Some(Arc::new(error.to_string())));
        })?;
        self.refused.store(None);
        if store.newest_policy_file().await?.as_ref() == Some(&text) {
            return Ok(None);
        }
        self.adopt_file(store, InForce { policy, text, ..(*old).clone() }, now).await.map(Some)
    }

    async fn adopt_file(&self, store: &Store, read: InForce, now: Timestamp) -> Result<u64, LoadError> {
        let source = if read.file.is_some() { PolicySource::File } else { PolicySource::Default };
        let about = PolicyVersion { version: 0, at: now, by: FILE_AUTHOR.to_owned(), source, note: None };
        let stored = store.add_policy(StoredPolicy { version: about, text: read.text }, true, None).await?;
        let Ok(stored) = stored else { return Ok(self.get().version) }; // nothing was expected, so nothing differs
        let version = stored.version.version;
        self.put_in_force(read.policy, stored);
        Ok(version)
    }

    /// Puts a person's policy into force, if `expected` still is.
    pub async fn change(
        &self,
        store: &Store,
        text: String,
        expected: Option<u64>,
        about: PolicyVersion,
    ) -> Result<Arc<InForce>, LoadError> {
        let policy = Policy::parse(&text, "")?;
        let _changing = self.changing.lock().await;
        match store.add_policy(StoredPolicy { version: about, text }, false, expected).await? {
            Ok(stored) => {
                self.put_in_force(policy, stored);
                Ok(self.get())
            }
            Err(newest) => Err(LoadError::Changed { expected: expected.unwrap_or_default(), newest }),
        }
    }

    fn put_in_force(&self, policy: Policy, stored: StoredPolicy) {
        let file = self.get().file.clone();
        let StoredPolicy { version: about, text } = stored;
        self.now.store(Arc::new(InForce { policy, version: about.version, file, text, about }));
    }
}

/// Every setting in which two policies differ, by its name.
pub fn changes(from: &Policy, to: &Policy) -> Vec<PolicyChange> {
    let mut changes = Vec::new();
    let value = |policy| serde_json::to_value(policy).unwrap_or_default();
    compare("", &value(from), &value(to), &mut changes);
    changes
}

fn compare(field: &str, from: &Value, to: &Value, changes: &mut Vec<PolicyChange>) {
    match (from, to) {
        (Value::Object(old), Value::Object(new)) => {
            let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for name in names {
                let field = if field.is_empty() { name.clone() } else { format!("{field}.{name}") };
                let of = |fields: &serde_json::Map<String, Value>| fields.get(name).cloned().unwrap_or_default();
                compare(&field, &of(old), &of(new), changes);
            }
        }
        _ if from == to => {}
        _ => changes.push(PolicyChange { field: field.to_owned(), from: from.clone(), to: to.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn by(name: &str) -> PolicyVersion {
        PolicyVersion { version: 0, at: NOW, by: name.to_owned(), source: PolicySource::Api, note: None }
    }

    #[tokio::test]
    async fn a_good_file_is_taken_and_a_bad_one_keeps_the_old_policy() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("db")).await.unwrap();
        let file = dir.path().join("policy.toml");
        std::fs::write(&file, "").unwrap();
        let holder = PolicyHolder::load(Some(file.clone())).unwrap();
        holder.settle(&store, NOW).await.unwrap();
        assert_eq!(holder.reload(&store, NOW).await.unwrap(), None, "nothing changed");
        std::fs::write(&file, "max_downtime_ms = 777\n").unwrap();
        assert_eq!(holder.reload(&store, NOW).await.unwrap(), Some(2));
        std::fs::write(&file, "max_downtime = 1\n").unwrap();
        let error = holder.reload(&store, NOW).await.unwrap_err().to_string();
        assert!(error.contains("max_downtime_ms"), "the nearest name is given: {error}");
        assert_eq!((holder.get().policy.max_downtime_ms, holder.get().version), (777, 2));
        assert!(holder.refused().is_some_and(|why| why.contains("max_downtime_ms")));
        std::fs::write(&file, "max_downtime_ms = 777\n").unwrap();
        assert_eq!((holder.reload(&store, NOW).await.unwrap(), holder.refused()), (None, None));
    }

    #[tokio::test]
    async fn the_newest_word_counts_across_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("db")).await.unwrap();
        let file = dir.path().join("policy.toml");
        std::fs::write(&file, "max_downtime_ms = 1\n").unwrap();
        let start = || async {
            let holder = PolicyHolder::load(Some(file.clone())).unwrap();
            holder.settle(&store, NOW).await.unwrap();
            holder
        };
        let first = start().await;
        first.change(&store, "max_downtime_ms = 2\n".into(), Some(1), by("ann")).await.unwrap();
        let late = first.change(&store, "max_downtime_ms = 3\n".into(), Some(1), by("bob")).await;
        assert!(matches!(late, Err(LoadError::Changed { expected: 1, newest: 2 })));
        let again = start().await;
        assert_eq!((again.get().policy.max_downtime_ms, again.get().version), (2, 2), "the file said nothing new");
        std::fs::write(&file, "max_downtime_ms = 4\n").unwrap();
        let changed = start().await;
        assert_eq!((changed.get().policy.max_downtime_ms, changed.get().version), (4, 3));
        assert_eq!(start().await.get().version, 3);
    }

    #[test]
    fn a_change_is_named_as_the_policy_names_it() {
        let policy = Policy::parse("[overload]\ncpu = { start = 0.9, done = 0.75 }\n", "").unwrap();
        let found = changes(&Policy::default(), &policy);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].field.as_str(), &found[0].from, &found[0].to),
            ("overload.cpu.start", &0.8.into(), &0.9.into())
        );
    }
}
