-- Mark a message as done where the claim still counts, or where there is no row at all. Answers whether its advisory lock
-- could be had (see claim.sql), and whether it was marked.
WITH turn AS MATERIALIZED (
    SELECT pg_try_advisory_xact_lock(%(lock)s) AS mine
), marked AS (
    INSERT INTO message_once AS kept (consumer, flow, message_id, token, done, doubt, until, expires)
    SELECT %(consumer)s, %(flow)s, %(message_id)s, %(token)s, true, false, clock_timestamp(),
           clock_timestamp() + %(keep)s * interval '1 microsecond'
    FROM turn WHERE mine
    ON CONFLICT (consumer, flow, message_id) DO UPDATE SET done = true WHERE kept.token = excluded.token
    RETURNING 1
)
SELECT mine, EXISTS (SELECT FROM marked) FROM turn
