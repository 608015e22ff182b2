//! Bearer tokens: the administrator's own, made at the first start, which agents use too, and named ones for people and
//! programs, of which only a hash is kept.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use anyhow::Context;
use fog_api::identity::{Identity, Role, Token, TokenRole};
use sha2::{Digest, Sha256};

/// The name of whoever has the data directory's token.
pub const ADMINISTRATOR: &str = "admin";

/// SHA-256 in hexadecimal. The tokens are random, so nothing slower is needed.
pub fn hash(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The named tokens, by the hash.
#[derive(Debug, Default)]
pub struct Tokens(RwLock<BTreeMap<String, Token>>);

impl Tokens {
    /// What the store knows.
    pub fn new(tokens: Vec<(String, Token)>) -> Self {
        Self(RwLock::new(tokens.into_iter().collect()))
    }

    /// Adds one that was stored.
    pub fn add(&self, hash: String, token: Token) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(hash, token);
    }

    /// Forgets one.
    pub fn remove(&self, name: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|_, token| token.name != name);
    }

    /// Whose token this is.
    pub fn whose(&self, given: &str) -> Option<Identity> {
        let tokens = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let token = tokens.get(&hash(given))?;
        let role = match token.role {
            TokenRole::Reader => Role::Reader,
            TokenRole::Admin => Role::Admin,
        };
        Some(Identity { name: token.name.clone(), role })
    }
}

/// 32 random bytes in hexadecimal.
pub fn random() -> anyhow::Result<String> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("the system gives no random bytes: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Reads the token, or makes one at the first start (mode 0600).
pub fn read_or_make(file: &Path) -> anyhow::Result<String> {
    match std::fs::read_to_string(file) {
        Ok(text) if text.trim().len() >= 32 => return Ok(text.trim().to_owned()),
        Ok(_) => anyhow::bail!(
            "{} holds no token of at least 32 characters: delete the file to get a new one",
            file.display()
        ),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
    let token = random()?;
    let mut out = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .with_context(|| format!("cannot write {}", file.display()))?;
    writeln!(out, "{token}")?;
    out.sync_all()?;
    tracing::info!(file = %file.display(), "made the token for agents and writes");
    Ok(token)
}

/// Compares in a time that does not depend on where the two differ.
pub fn same(given: &str, expected: &str) -> bool {
    given.len() == expected.len() && given.bytes().zip(expected.bytes()).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_made_once_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let first = read_or_make(&file).unwrap();
        assert_eq!(read_or_make(&file).unwrap(), first);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(same(&first, &first));
        assert!(!same(&first, "") && !same(&first, &first.replace(&first[..1], "x")));
    }
}
