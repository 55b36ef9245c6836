-- Operator keys and registration secrets, of which only digests are kept. `ended_at` is set if it was revoked or is
-- to expire; `last_used_at` stands apart from the record, because it moves without a revision.
CREATE TABLE credential (
    id           BLOB PRIMARY KEY,
    rev          INTEGER NOT NULL,
    ended_at     INTEGER,
    last_used_at INTEGER,
    record       TEXT NOT NULL
) STRICT, WITHOUT ROWID;
