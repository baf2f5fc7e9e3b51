-- Whose turn it is, asked and taken in one statement that waits for nobody: the advisory lock of the message is held by
-- whoever writes its row, until the end of that transaction, so no row is ever waited for. What is done, or is being done,
-- is found first: a message that comes again costs no write.
WITH standing AS MATERIALIZED (
    SELECT done, token, until FROM message_once
    WHERE consumer = %(consumer)s AND flow = %(flow)s AND message_id = %(message_id)s
      AND expires > clock_timestamp() AND (done OR until > clock_timestamp())
), turn AS MATERIALIZED (
    SELECT pg_try_advisory_xact_lock(%(lock)s) AS mine WHERE NOT EXISTS (SELECT FROM standing)
), taken AS (
    INSERT INTO message_once AS kept (consumer, flow, message_id, token, done, doubt, until, expires)
    SELECT %(consumer)s, %(flow)s, %(message_id)s, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
           %(done)s, false,
           clock_timestamp() + %(lease)s * interval '1 microsecond',
           clock_timestamp() + %(keep)s * interval '1 microsecond'
    FROM turn WHERE mine
    ON CONFLICT (consumer, flow, message_id) DO UPDATE
    SET token = greatest(excluded.token, kept.token + 1), done = excluded.done,
        doubt = kept.expires > clock_timestamp(), until = excluded.until, expires = excluded.expires
    WHERE kept.expires <= clock_timestamp() OR (NOT kept.done AND kept.until <= clock_timestamp())
    RETURNING token, doubt
)
SELECT CASE WHEN doubt THEN 'unknown' ELSE 'first' END, token, 0::bigint FROM taken
UNION ALL
SELECT CASE WHEN done THEN 'done' ELSE 'busy' END, token,
       greatest(0, extract(epoch FROM until - clock_timestamp()) * 1000000)::bigint
FROM standing
