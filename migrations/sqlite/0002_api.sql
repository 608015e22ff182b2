-- What the API keeps. `body` columns hold fog_api's JSON.

-- Every policy that was ever in force; the highest version is.
CREATE TABLE policy_versions (
    version   INTEGER PRIMARY KEY,
    body      TEXT NOT NULL,    -- fog_api::policy::PolicyVersion
    text      TEXT NOT NULL,    -- TOML, as it was written
    from_file INTEGER NOT NULL  -- the policy file said it, or its absence
) STRICT;

-- What happened, in the order of the transactions that made it happen. A number is never used twice.
CREATE TABLE events (
    seq   INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    body  TEXT NOT NULL -- fog_api::event::Event
) STRICT;
CREATE INDEX events_by_time ON events (at_ms);

CREATE TABLE audit (
    id    TEXT PRIMARY KEY, -- UUIDv7: sorts by time
    at_ms INTEGER NOT NULL,
    body  TEXT NOT NULL -- fog_api::audit::AuditEntry
) STRICT;
CREATE INDEX audit_by_time ON audit (at_ms);

-- What a write with an Idempotency-Key was answered, so that its repetition is answered the same.
CREATE TABLE idempotency (
    who         TEXT NOT NULL,
    key         TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    at_ms       INTEGER NOT NULL,
    status      INTEGER, -- NULL while it is under way
    headers     TEXT,    -- JSON
    answer      BLOB,    -- NULL where the answer holds a secret
    PRIMARY KEY (who, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE tokens (
    name  TEXT PRIMARY KEY,
    hash  TEXT NOT NULL UNIQUE, -- SHA-256 in hexadecimal
    at_ms INTEGER NOT NULL,
    body  TEXT NOT NULL -- fog_api::identity::Token
) STRICT;

CREATE TABLE drains (
    node     TEXT PRIMARY KEY,
    since_ms INTEGER NOT NULL,
    by       TEXT NOT NULL
) STRICT;

CREATE TABLE webhooks (
    id     TEXT PRIMARY KEY,
    body   TEXT NOT NULL,    -- fog_api::webhook::Webhook
    secret TEXT NOT NULL,
    done   INTEGER NOT NULL  -- every event up to this one was delivered, passed over or given up
) STRICT;

-- Events that a webhook's receiver did not take.
CREATE TABLE dead_letters (
    id      TEXT PRIMARY KEY,
    webhook TEXT NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    at_ms   INTEGER NOT NULL,
    body    TEXT NOT NULL -- fog_api::webhook::DeadLetter
) STRICT;
CREATE INDEX dead_letters_by_webhook ON dead_letters (webhook);

-- What the orchestrator logged about a migration.
CREATE TABLE migration_lines (
    seq       INTEGER PRIMARY KEY AUTOINCREMENT,
    migration TEXT NOT NULL,
    at_ms     INTEGER NOT NULL,
    body      TEXT NOT NULL -- fog_api::migration::LogLine
) STRICT;
CREATE INDEX lines_by_migration ON migration_lines (migration);
