//! The policy in force.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
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
pub struct PolicyHolder(ArcSwap<InForce>);

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

impl PolicyHolder {
    /// Loads the policy for the start: a bad file stops it.
    pub fn load(file: Option<PathBuf>) -> Result<Self, LoadError> {
        let policy = match &file {
            None => Policy::default(),
            Some(file) => {
                let name = file.display().to_string();
                let text = std::fs::read_to_string(file)
                    .map_err(|error| LoadError::Unreadable { file: name.clone(), error })?;
                Policy::parse(&text, &name)?
            }
        };
        Ok(Self(ArcSwap::from_pointee(InForce { policy, version: 1, file })))
    }

    /// The policy in force now.
    pub fn get(&self) -> Arc<InForce> {
        self.0.load_full()
    }
}
