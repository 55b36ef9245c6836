-- `letter` is set while the task is a dead letter: it failed for good or died, and nobody requeued or discarded it.
ALTER TABLE task ADD COLUMN letter INTEGER;
UPDATE task SET letter = 1 WHERE status IN ('failed', 'dead');
CREATE INDEX task_letter ON task (tenant, seq) WHERE letter IS NOT NULL;
