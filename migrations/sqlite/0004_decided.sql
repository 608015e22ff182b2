-- The limits of workloads that the planner has enlarged: Docker remembers only the newest.
CREATE TABLE limits (
    workload TEXT PRIMARY KEY,
    created  TEXT NOT NULL, -- fog_api::decision::Limits that it was created with
    given    TEXT NOT NULL  -- fog_api::decision::Limits that it was given last
) STRICT;

CREATE INDEX decisions_by_status ON decisions (json_extract(body, '$.status'), id);
