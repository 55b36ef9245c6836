-- What became of tasks lately, in the order of the commits, one row for each: a task that is here is in no other table yet,
-- and neither is an event.
CREATE TABLE journal (
    seq  INTEGER PRIMARY KEY,
    page BLOB NOT NULL
) STRICT;
