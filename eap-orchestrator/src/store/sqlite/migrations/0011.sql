-- What lists show of sessions and workflows, beside the records that hold all of it. No call kept either before this version.
ALTER TABLE session ADD COLUMN started_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN reason TEXT;
ALTER TABLE workflow ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE workflow ADD COLUMN description TEXT;
ALTER TABLE workflow ADD COLUMN steps INTEGER NOT NULL DEFAULT 0;

-- A session that goes takes its steps with it.
CREATE INDEX session_step_of ON session_step (session);
