-- The first schema. Times are microseconds since 1970, ids 16 bytes or the agents' own words,
-- records the JSON of their Rust types. Columns beside a record repeat what is searched by.

-- Numbers that outlive the rows they count, and the sweeper's pulse.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The routing keys that ready tasks have, or had lately.
CREATE TABLE route (
    id        INTEGER PRIMARY KEY,
    tenant    BLOB NOT NULL,
    canonical TEXT NOT NULL UNIQUE,
    key       TEXT NOT NULL
) STRICT;

-- What was asked for: written once, under the number of its task.
CREATE TABLE task_spec (
    seq  INTEGER PRIMARY KEY,
    spec TEXT NOT NULL
) STRICT;

-- How far it got. `route` is set exactly while the task is ready, `due_at` while the sweeper must
-- come back to it, `holder` while it is leased, `ended_at` once it is final.
CREATE TABLE task (
    seq        INTEGER PRIMARY KEY,
    id         BLOB NOT NULL UNIQUE,
    tenant     BLOB NOT NULL,
    task_type  TEXT NOT NULL,
    priority   INTEGER NOT NULL,
    rev        INTEGER NOT NULL,
    status     TEXT NOT NULL,
    route      INTEGER,
    due_at     INTEGER,
    holder     TEXT,
    request_id TEXT,
    ended_at   INTEGER,
    last_agent TEXT,
    state      TEXT NOT NULL
) STRICT;
CREATE INDEX task_ready ON task (route, priority, seq) WHERE route IS NOT NULL;
CREATE INDEX task_due ON task (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX task_held ON task (holder, id) WHERE holder IS NOT NULL;
CREATE INDEX task_ended ON task (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX task_by_status ON task (tenant, status, seq);
CREATE INDEX task_by_type ON task (tenant, task_type, seq);
CREATE INDEX task_by_agent ON task (tenant, last_agent, seq) WHERE last_agent IS NOT NULL;

-- The recorded result, under the number of its task.
CREATE TABLE result (
    seq         INTEGER PRIMARY KEY,
    attempt     INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL,
    result      TEXT NOT NULL
) STRICT;

-- Reports that came too late; the first of an attempt is kept.
CREATE TABLE late_result (
    seq         INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    agent       TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    result      TEXT NOT NULL,
    UNIQUE (seq, attempt)
) STRICT;
CREATE INDEX late_result_by_age ON late_result (received_at);

CREATE TABLE event (
    seq     INTEGER PRIMARY KEY,
    tenant  BLOB NOT NULL,
    at      INTEGER NOT NULL,
    kind    TEXT NOT NULL,
    task    BLOB,
    agent   TEXT,
    attempt INTEGER,
    detail  TEXT
) STRICT;
CREATE INDEX event_by_task ON event (task, seq) WHERE task IS NOT NULL;

-- Numbered in order of arrival, so that the oldest are found without an index by age.
CREATE TABLE idempotency (
    seq         INTEGER PRIMARY KEY,
    principal   TEXT NOT NULL,
    route       TEXT NOT NULL,
    key         TEXT NOT NULL,
    body_sha256 BLOB NOT NULL,
    task        BLOB,
    agent       TEXT,
    created_at  INTEGER NOT NULL,
    UNIQUE (principal, route, key)
) STRICT;

-- `gone_at` is set once the agent left or lost its place.
CREATE TABLE agent (
    seq         INTEGER PRIMARY KEY,
    id          TEXT NOT NULL UNIQUE,
    tenant      BLOB NOT NULL,
    name        TEXT NOT NULL,
    instance_id TEXT,
    epoch       INTEGER NOT NULL,
    is_active   INTEGER NOT NULL,
    gone_at     INTEGER,
    rev         INTEGER NOT NULL,
    record      TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX agent_identity ON agent (tenant, name, instance_id) WHERE instance_id IS NOT NULL;

-- Apart from the agents' records, because they are rewritten every second.
CREATE TABLE vitals (
    seq       INTEGER PRIMARY KEY,
    last_seen INTEGER NOT NULL,
    vitals    TEXT NOT NULL
) STRICT;
