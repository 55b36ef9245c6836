-- Callbacks that are not over, by the task they belong to.
CREATE TABLE callback (
    task     BLOB PRIMARY KEY,
    rev      INTEGER NOT NULL,
    receiver TEXT NOT NULL,
    ended_at INTEGER NOT NULL,
    tries    INTEGER NOT NULL,
    due_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX callback_due ON callback (due_at, task);
