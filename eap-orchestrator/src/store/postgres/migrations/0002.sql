-- For several orchestrators on one schema. Adds and changes nothing that is there: programs of version 1 that are running go
-- on beside it.

-- The registration that the vitals belong to: of two replicas that heard of an agent, the one that heard last is right.
ALTER TABLE eap.vitals ADD COLUMN epoch int8 NOT NULL DEFAULT 0;

-- Which store wrote an event, by a number that each draws when it is opened; none for what no store wrote itself.
ALTER TABLE eap.event ADD COLUMN writer int8;

-- The replicas that are at work, and when each last said so: what one of them had in hand is taken up by others.
CREATE TABLE eap.replica (
    id      int8 PRIMARY KEY,
    seen_at int8 NOT NULL
);

-- The oldest version whose programs can stand on this one.
ALTER TABLE eap.eap_schema_version ADD COLUMN oldest int8 NOT NULL DEFAULT 1;
