-- Webhooks that took effect: each does so once.
CREATE TABLE webhook (
    digest      BLOB PRIMARY KEY,
    received_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX webhook_age ON webhook (received_at);

-- What agents of a platform said of their state: of one registration in the order of their own times, then of arrival.
CREATE TABLE state (
    agent       TEXT NOT NULL,
    epoch       INTEGER NOT NULL,
    reported_at INTEGER NOT NULL,
    number      INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    state       TEXT NOT NULL,
    details     TEXT,
    PRIMARY KEY (agent, epoch, reported_at, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX state_age ON state (received_at);
