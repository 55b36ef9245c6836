-- What a claim looks at, in one call instead of three. Adds functions and changes nothing that is there.

-- The heads of some routes behind a place, merged in their common order: at most so many, and until their specs have so many
-- bytes together, but at least one. Those that no other transaction has in hand are locked, for what is locked here others
-- pass over; the others come without spec and state. `found` is how many heads there were. A step of the index for each route
-- and each task: what waits behind them costs nothing, nor do the bytes of what has no room. It is planned once, for any limit
-- and without a bitmap, or a young table of which nothing is known yet would have all of a route gathered and sorted. `LATERAL`:
-- joined otherwise, specs would be walked from the first one on.
CREATE FUNCTION eap.heads(routes int8[], after_priority int8, after_seq int8, most int8, room int8)
    RETURNS TABLE (priority int8, seq int8, spec text, state text, found int8) LANGUAGE plpgsql VOLATILE
    SET plan_cache_mode = force_generic_plan SET enable_bitmapscan = off
    AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH heads AS MATERIALIZED (
        SELECT h.priority, h.seq FROM unnest(routes) AS r (route) CROSS JOIN LATERAL (
            SELECT t.priority, t.seq FROM eap.task t
            WHERE t.route = r.route AND (t.priority, t.seq) > (after_priority, after_seq)
            ORDER BY t.priority, t.seq LIMIT most) AS h
        ORDER BY h.priority, h.seq LIMIT most),
    sized AS MATERIALIZED (
        SELECT h.priority, h.seq, octet_length(s.spec) AS bytes,
            sum(octet_length(s.spec)) OVER (ORDER BY h.priority, h.seq) AS up_to, count(*) OVER () AS found
        FROM heads h CROSS JOIN LATERAL (SELECT s.spec FROM eap.task_spec s WHERE s.seq = h.seq LIMIT 1) AS s),
    fitting AS MATERIALIZED (SELECT * FROM sized WHERE up_to - bytes < room),
    free AS MATERIALIZED (
        SELECT t.seq, t.state FROM eap.task t
        WHERE t.seq = ANY(ARRAY(SELECT seq FROM fitting)) AND t.route IS NOT NULL FOR UPDATE OF t SKIP LOCKED)
    SELECT h.priority, h.seq, s.spec, f.state, h.found FROM fitting h
    LEFT JOIN free f ON f.seq = h.seq LEFT JOIN eap.task_spec s ON s.seq = f.seq ORDER BY h.priority, h.seq;
END
$$;

-- Locks the agents that ask, so that nothing is added to what they hold but by this transaction, and looks around once they
-- are. Each statement sees what was committed before it, even if it waited. Rows of four kinds, told by the first of their
-- columns that is set: `agent` tells of an agent; `now` the time, how often routes were forgotten, and one of those that were
-- made since; `holder` a task that one of them holds; and `found` a head of the open routes.
CREATE FUNCTION eap.look(asking text[], newest int8, open int8[], most int8, room int8)
    RETURNS TABLE (
        agent text, epoch int8, is_active bool,
        now int8, forgotten int8, route int8, key text,
        holder text, request_id text,
        priority int8, seq int8, spec text, state text, found int8
    ) LANGUAGE plpgsql VOLATILE
    AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT a.id, a.epoch, a.is_active, NULL::int8, NULL::int8, NULL::int8, NULL::text, NULL::text, NULL::text,
        NULL::int8, NULL::int8, NULL::text, NULL::text, NULL::int8
    FROM eap.agent a WHERE a.id = ANY(asking) ORDER BY a.id FOR NO KEY UPDATE;
    RETURN QUERY
    SELECT NULL::text, NULL::int8, NULL::bool, eap.clock(), m.value, r.id, r.key, NULL::text, NULL::text,
        NULL::int8, NULL::int8, NULL::text, NULL::text, NULL::int8
    FROM eap.meta m LEFT JOIN eap.route r ON r.id > newest WHERE m.key = 'forgotten_routes'
    UNION ALL
    SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, t.holder, t.request_id, t.priority, t.seq, NULL, NULL, NULL
    FROM eap.task t WHERE t.holder = ANY(asking);
    IF most > 0 THEN
        RETURN QUERY
        SELECT NULL::text, NULL::int8, NULL::bool, NULL::int8, NULL::int8, NULL::int8, NULL::text, NULL::text,
            NULL::text, h.priority, h.seq, h.spec, h.state, h.found
        FROM eap.heads(open, -1, -1, most, room) AS h;
    END IF;
END
$$;
