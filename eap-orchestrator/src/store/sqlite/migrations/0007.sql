-- A commit costs the pages that it dirties. Indexes by agent and by the task of an event dirty one for every agent and
-- every running task; so they follow the events from a distance, in bulk: up to number `indexed` in `meta`.
DROP INDEX task_by_agent;
DROP INDEX event_by_task;

CREATE TABLE task_of_agent (
    tenant BLOB NOT NULL,
    agent  TEXT NOT NULL,
    task   INTEGER NOT NULL,
    PRIMARY KEY (tenant, agent, task)
) STRICT, WITHOUT ROWID;

CREATE TABLE event_of_task (
    task  INTEGER NOT NULL,
    event INTEGER NOT NULL,
    PRIMARY KEY (task, event)
) STRICT, WITHOUT ROWID;

INSERT INTO task_of_agent (tenant, agent, task)
    SELECT tenant, last_agent, seq FROM task WHERE last_agent IS NOT NULL ORDER BY 1, 2, 3;
INSERT INTO event_of_task (task, event)
    SELECT t.seq, e.seq FROM event e JOIN task t ON t.id = e.task ORDER BY 1, 2;
INSERT INTO meta (key, value) SELECT 'indexed', max(seq) FROM event HAVING max(seq) IS NOT NULL;

-- A task changes its place by status twice on its way, not three times: queued and leased ones stand in one list.
DROP INDEX task_by_status;
CREATE INDEX task_open ON task (tenant, seq) WHERE ended_at IS NULL;
CREATE INDEX task_over ON task (tenant, status, seq) WHERE ended_at IS NOT NULL;
