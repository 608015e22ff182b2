-- Instants are milliseconds since 1970 UTC by the orchestrator's clock, unless a column says otherwise.

CREATE TABLE nodes (
    name             TEXT PRIMARY KEY,
    agent_version    TEXT NOT NULL,
    transfer_address TEXT NOT NULL,
    facts            TEXT NOT NULL, -- fog_api::agent::NodeFacts
    hello_at_ms      INTEGER NOT NULL,
    heartbeat_at_ms  INTEGER,
    cordoned         INTEGER NOT NULL DEFAULT 0, -- a person said: nothing new comes here
    draining         INTEGER NOT NULL DEFAULT 0  -- and what is there leaves
) STRICT;

-- Keyed by the agent's own count, so that a batch that is sent twice is stored once.
CREATE TABLE samples (
    node          TEXT NOT NULL,
    boot          TEXT NOT NULL,
    seq           INTEGER NOT NULL,
    at_ms         INTEGER NOT NULL, -- by the node's clock
    cpu           REAL NOT NULL,
    memory        REAL NOT NULL,
    run_queue     REAL NOT NULL,
    pressure_cpu  REAL, -- NULL where the kernel does not measure it
    pressure_memory REAL,
    pressure_io   REAL,
    disk          REAL NOT NULL,
    received_bytes_per_s REAL NOT NULL,
    sent_bytes_per_s     REAL NOT NULL,
    temperature_c REAL,
    PRIMARY KEY (node, boot, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX samples_by_time ON samples (node, at_ms);

-- Who owns a workload. The row outlives the container, so that the epoch never falls.
CREATE TABLE ownership (
    workload    TEXT PRIMARY KEY,
    owner       TEXT,             -- a node; NULL: the container is gone
    epoch       INTEGER NOT NULL, -- rises with every change of owner
    moved_at_ms INTEGER,          -- when the last migration committed
    moved_from  TEXT
) STRICT;

CREATE TABLE decisions (
    id    TEXT PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    body  TEXT NOT NULL -- fog_api::decision::Decision
) STRICT;

CREATE TABLE migrations (
    id            TEXT PRIMARY KEY, -- UUIDv7: sorts by time
    workload      TEXT NOT NULL,
    epoch         INTEGER NOT NULL, -- of the source; the destination's is one higher
    over          INTEGER NOT NULL, -- the workload's fate is decided
    finished      INTEGER NOT NULL, -- and nothing is left to clean on either end
    state         TEXT NOT NULL,    -- fog_core::migration::Migration
    record        TEXT NOT NULL,    -- fog_api::migration::Migration
    ticket        TEXT,             -- removed when finished
    specification TEXT,             -- the source's own configuration; removed when finished
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX one_migration_per_workload ON migrations (workload) WHERE over = 0;
CREATE INDEX unfinished_migrations ON migrations (finished) WHERE finished = 0;
