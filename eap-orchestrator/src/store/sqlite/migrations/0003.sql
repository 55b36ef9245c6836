-- Tasks that are queued and not ready, so that those of a type are counted without a look at the rest. The last two
-- columns are the same in every row: with them the index alone answers.
CREATE INDEX task_delayed ON task (tenant, task_type, status, route) WHERE status = 'queued' AND route IS NULL;
