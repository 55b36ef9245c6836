-- What a key of a batch made: a JSON list with the ids of its tasks, null for one that was refused.
ALTER TABLE idempotency ADD COLUMN tasks TEXT;
