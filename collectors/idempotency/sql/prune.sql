-- Forget what was kept long enough, the oldest first, at most so many rows; those that somebody holds are left for later.
DELETE FROM message_once WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM message_once WHERE expires <= now() ORDER BY expires LIMIT %(limit)s FOR UPDATE SKIP LOCKED
))
