-- How far nodes were from each other: one row a node and step, at two levels, each with its own retention.
CREATE TABLE delays (
    level INTEGER NOT NULL, -- 0: by the minute (five minutes in a large cluster), 1: by the hour
    node  INTEGER NOT NULL, -- node_numbers.number
    at_ms INTEGER NOT NULL, -- the step's beginning
    links TEXT NOT NULL,    -- {"B": [mean round trip in ms, the longest]}: the nearest few
    PRIMARY KEY (level, node, at_ms)
) STRICT, WITHOUT ROWID;
