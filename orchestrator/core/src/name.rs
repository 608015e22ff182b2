//! Names of nodes and workloads, checked once where they enter. Copies share the text: a snapshot names every node as
//! often as it has workloads.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest name accepted, in bytes (the limit of a host name).
pub const MAX_NAME_BYTES: usize = 253;

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{kind} name {text:?} is not valid: use 1 to {MAX_NAME_BYTES} of the characters A-Z a-z 0-9 _ . - and begin with a letter or a digit"
)]
pub struct NameError {
    /// `node` or `workload`.
    pub kind: &'static str,
    /// The refused text, cut after 64 characters.
    pub text: String,
}

fn validate(kind: &'static str, text: &str) -> Result<(), NameError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let good_start = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if good_start && text.len() <= MAX_NAME_BYTES && text.bytes().all(plain) {
        return Ok(());
    }
    Err(NameError { kind, text: text.chars().take(64).collect() })
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// Checks and wraps a name.
            pub fn new(text: impl Into<Arc<str>>) -> Result<Self, NameError> {
                let text = text.into();
                validate($kind, &text)?;
                Ok(Self(text))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]*$",
                    "minLength": 1,
                    "maxLength": MAX_NAME_BYTES,
                })
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.as_str().to_owned()
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $type {
            fn eq(&self, other: &str) -> bool {
                self.as_str() == other
            }
        }

        impl PartialEq<&str> for $type {
            fn eq(&self, other: &&str) -> bool {
                self.as_str() == *other
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// The name of a node, unique in the cluster.
    NodeName,
    "node"
);
name!(
    /// The name of a workload (a container Fogshift knows), unique in the cluster.
    WorkloadName,
    "workload"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_docker_and_dns_accept() {
        for good in ["A", "looper", "web_1.eu-west", "0"] {
            assert!(NodeName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", ".a", "a b", "ä", "a/b", &"x".repeat(254)] {
            assert!(WorkloadName::new(bad).is_err(), "{bad}");
        }
        let error = NodeName::new("a b").expect_err("a blank");
        assert!(error.to_string().starts_with("node name \"a b\" is not valid: use 1 to 253"));
    }
}
