-- Give the turn back: without doubt the row goes, else the next one finds a lease that ran out. Answers whether the
-- message's advisory lock could be had (see claim.sql).
WITH turn AS MATERIALIZED (
    SELECT pg_try_advisory_xact_lock(%(lock)s) AS mine
), gone AS (
    DELETE FROM message_once AS kept USING turn
    WHERE mine AND consumer = %(consumer)s AND flow = %(flow)s AND message_id = %(message_id)s
      AND token = %(token)s AND NOT done AND NOT doubt AND NOT %(doubt)s
), left_over AS (
    UPDATE message_once AS kept SET until = clock_timestamp(), doubt = true FROM turn
    WHERE mine AND consumer = %(consumer)s AND flow = %(flow)s AND message_id = %(message_id)s
      AND token = %(token)s AND NOT done AND (doubt OR %(doubt)s)
)
SELECT mine FROM turn
