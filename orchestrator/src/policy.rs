//! The policy in force.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use fog_core::policy::{Policy, PolicyError};

/// A policy and where it came from.
#[derive(Debug)]
pub struct InForce {
    /// The policy.
    pub policy: Policy,
    /// Rises with every change since the start.
    pub version: u64,
    /// The file, if it came from one.
    pub file: Option<PathBuf>,
}

/// Holds the policy in force; readers never wait.
pub struct PolicyHolder {
    in_force: ArcSwap<InForce>,
    /// What is wrong with the file as it is now.
    refused: ArcSwapOption<String>,
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
    /// The file says something wrong.
    #[error("{0}")]
    Wrong(#[from] PolicyError),
}

fn read(file: Option<&Path>) -> Result<Policy, LoadError> {
    let Some(file) = file else { return Ok(Policy::default()) };
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|error| LoadError::Unreadable { file: name.clone(), error })?;
    Ok(Policy::parse(&text, &name)?)
}

impl PolicyHolder {
    /// Loads the policy for the start: a bad file stops it.
    pub fn load(file: Option<PathBuf>) -> Result<Self, LoadError> {
        let policy = read(file.as_deref())?;
        let in_force = ArcSwap::from_pointee(InForce { policy, version: 1, file });
        Ok(Self { in_force, refused: ArcSwapOption::empty() })
    }

    /// The policy in force now.
    pub fn get(&self) -> Arc<InForce> {
        self.in_force.load_full()
    }

    /// What is wrong with the file as it is now, if that is why an older policy is in force.
    pub fn refused(&self) -> Option<Arc<String>> {
        self.refused.load_full()
    }

    /// Versions go on where the last start ended: called once, with the newest policy that was ever in force.
    pub fn number(&self, newest: Option<(u64, Option<&Policy>)>) {
        let now = self.get();
        let version = match newest {
            Some((version, Some(policy))) if *policy == now.policy => version,
            Some((version, _)) => version + 1,
            None => 1,
        };
        self.in_force.store(Arc::new(InForce { policy: now.policy.clone(), version, file: now.file.clone() }));
    }

    /// Reads the file again; a bad one leaves the old policy in force. `None`: it says what is in force already.
    pub fn reload(&self) -> Result<Option<u64>, LoadError> {
        let old = self.get();
        let policy = read(old.file.as_deref()).inspect_err(|error| {
            self.refused.store(Some(Arc::new(error.to_string())));
        })?;
        self.refused.store(None);
        if policy == old.policy {
            return Ok(None);
        }
        let version = old.version + 1;
        self.in_force.store(Arc::new(InForce { policy, version, file: old.file.clone() }));
        Ok(Some(version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_file_is_taken_and_a_bad_one_keeps_the_old_policy() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let holder = PolicyHolder::load(Some(file.path().to_owned())).unwrap();
        assert_eq!(holder.reload().unwrap(), None, "nothing changed");
        std::fs::write(file.path(), "max_downtime_ms = 777\n").unwrap();
        assert_eq!(holder.reload().unwrap(), Some(2));
        std::fs::write(file.path(), "max_downtime = 1\n").unwrap();
        assert!(holder.reload().unwrap_err().to_string().contains("max_downtime_ms"), "the nearest name is given");
        assert_eq!((holder.get().policy.max_downtime_ms, holder.get().version), (777, 2));
        assert!(holder.refused().is_some_and(|why| why.contains("max_downtime_ms")));
        std::fs::write(file.path(), "max_downtime_ms = 777\n").unwrap();
        assert_eq!((holder.reload().unwrap(), holder.refused()), (None, None));
    }

    #[test]
    fn versions_go_on_after_a_restart() {
        let holder = PolicyHolder::load(None).unwrap();
        let (same, other) = (Policy::default(), Policy { min_gain: 0.5, ..Policy::default() });
        for (newest, version) in
            [(None, 1), (Some((7, Some(&same))), 7), (Some((7, Some(&other))), 8), (Some((9, None)), 10)]
        {
            holder.number(newest);
            assert_eq!(holder.get().version, version);
        }
    }
}
