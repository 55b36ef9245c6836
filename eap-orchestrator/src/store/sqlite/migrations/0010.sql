-- Workflows that are kept: each version once, never changed.
CREATE TABLE workflow (
    seq       INTEGER PRIMARY KEY,
    tenant    BLOB NOT NULL,
    id        TEXT NOT NULL,
    version   TEXT NOT NULL,
    stored_at INTEGER NOT NULL,
    record    TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX workflow_version ON workflow (tenant, id, version);
CREATE INDEX workflow_by_id ON workflow (tenant, id, seq);
CREATE INDEX workflow_of_tenant ON workflow (tenant, seq);

-- Sessions. `steps` is how many steps were begun: those are in `session_step` already. Numbers are not given twice.
CREATE TABLE session (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    rev      INTEGER NOT NULL,
    id       BLOB NOT NULL UNIQUE,
    tenant   BLOB NOT NULL,
    workflow TEXT NOT NULL,
    agent    TEXT,
    status   TEXT NOT NULL,
    ended_at INTEGER,
    steps    INTEGER NOT NULL,
    run      TEXT NOT NULL
) STRICT;
CREATE INDEX session_of_tenant ON session (tenant, seq);
CREATE INDEX session_by_status ON session (tenant, status, seq);
CREATE INDEX session_by_workflow ON session (tenant, workflow, seq);
CREATE INDEX session_by_agent ON session (tenant, agent, seq) WHERE agent IS NOT NULL;
CREATE INDEX session_open ON session (id) WHERE ended_at IS NULL;
CREATE INDEX session_ended ON session (ended_at) WHERE ended_at IS NOT NULL;

-- What was started, apart from what changes.
CREATE TABLE session_spec (
    seq  INTEGER PRIMARY KEY,
    spec TEXT NOT NULL
) STRICT;

-- The session of every task that is a step: most tasks are none, and are nowhere here.
CREATE TABLE session_step (
    task    BLOB PRIMARY KEY,
    session INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
