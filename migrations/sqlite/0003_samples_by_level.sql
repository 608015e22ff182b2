-- Samples at three levels: as they came, by the minute, by the hour. Each level has its own retention.
-- Small integers instead of reals take less room (fractions in 1/10000, degrees in 1/10, run queue in 1/100).
-- The samples of before are not carried over.

DROP TABLE samples;

CREATE TABLE node_numbers (
    number INTEGER PRIMARY KEY,
    node   TEXT NOT NULL UNIQUE
) STRICT;

-- Apart from `nodes`: written with every sample, and small.
CREATE TABLE heartbeats (
    node             INTEGER PRIMARY KEY, -- node_numbers.number
    at_ms            INTEGER NOT NULL,
    minutes_until_ms INTEGER NOT NULL,    -- samples before this are in samples_minute
    hours_until_ms   INTEGER NOT NULL     -- and before this in samples_hour
) STRICT;

-- Keyed by the node's own time, so that a batch that is sent twice is stored once.
CREATE TABLE samples (
    node          INTEGER NOT NULL,
    at_ms         INTEGER NOT NULL,
    cpu           INTEGER NOT NULL,
    memory        INTEGER NOT NULL,
    disk          INTEGER NOT NULL,
    run_queue     INTEGER NOT NULL,
    pressure_cpu    INTEGER, -- NULL where the kernel does not measure it
    pressure_memory INTEGER,
    pressure_io     INTEGER,
    received_bytes_per_s INTEGER NOT NULL,
    sent_bytes_per_s     INTEGER NOT NULL,
    temperature   INTEGER,
    PRIMARY KEY (node, at_ms)
) STRICT, WITHOUT ROWID;

CREATE TABLE samples_minute (
    node          INTEGER NOT NULL,
    at_ms         INTEGER NOT NULL, -- the minute's beginning
    samples       INTEGER NOT NULL, -- how many; the columns hold their mean
    cpu           INTEGER NOT NULL,
    cpu_max       INTEGER NOT NULL,
    memory        INTEGER NOT NULL,
    memory_max    INTEGER NOT NULL,
    disk          INTEGER NOT NULL,
    run_queue     INTEGER NOT NULL,
    pressure_cpu    INTEGER,
    pressure_memory INTEGER,
    pressure_io     INTEGER,
    received_bytes_per_s INTEGER NOT NULL,
    sent_bytes_per_s     INTEGER NOT NULL,
    temperature   INTEGER,
    temperature_max INTEGER,
    PRIMARY KEY (node, at_ms)
) STRICT, WITHOUT ROWID;

CREATE TABLE samples_hour (
    node          INTEGER NOT NULL,
    at_ms         INTEGER NOT NULL,
    samples       INTEGER NOT NULL,
    cpu           INTEGER NOT NULL,
    cpu_max       INTEGER NOT NULL,
    memory        INTEGER NOT NULL,
    memory_max    INTEGER NOT NULL,
    disk          INTEGER NOT NULL,
    run_queue     INTEGER NOT NULL,
    pressure_cpu    INTEGER,
    pressure_memory INTEGER,
    pressure_io     INTEGER,
    received_bytes_per_s INTEGER NOT NULL,
    sent_bytes_per_s     INTEGER NOT NULL,
    temperature   INTEGER,
    temperature_max INTEGER,
    PRIMARY KEY (node, at_ms)
) STRICT, WITHOUT ROWID;
