//! Who asks, and what they may do.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// No token: reading, where the orchestrator's configuration allows it.
    Anonymous,
    /// Reading.
    Reader,
    /// Everything.
    Admin,
}

/// `GET /v1/whoami`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Identity {
    /// The token's name; `admin` for the one in the data directory, empty without a token.
    pub name: String,
    /// What it allows.
    pub role: Role,
}

/// What a new token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TokenRole {
    /// Reading.
    Reader,
    /// Everything.
    Admin,
}

/// `POST /v1/tokens`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// Whose it is: 1 to 64 of the characters A-Z a-z 0-9 _ . - ; the audit calls its user so.
    #[schema(pattern = "^[A-Za-z0-9_.-]{1,64}$", min_length = 1, max_length = 64)]
    pub name: String,
    /// What it allows.
    pub role: TokenRole,
}

/// `GET /v1/tokens`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// Whose it is.
    pub name: String,
    /// What it allows.
    pub role: TokenRole,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
}

/// The answer to `POST /v1/tokens`: the only time that the secret is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewToken {
    /// Whose it is.
    pub name: String,
    /// What it allows.
    pub role: TokenRole,
    /// The secret, for the header `Authorization: Bearer …`.
    pub token: String,
}
