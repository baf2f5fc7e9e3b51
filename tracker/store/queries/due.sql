-- Adds the messages whose timer has come and that still wait for something, as rows without facts; one that waits for a
-- later time now gets its next timer by being judged again.
INSERT INTO {db}.{delta} (tenant, flow, message_id, origin_carried, first_observed, first_received, produced_first)
SELECT '', {of}, message_id, {never}, {never}, {never}, {never}
FROM {db}.states
WHERE tenant = '' AND {mine} AND {slice} AND ({key}) IN (
    SELECT {key} FROM {db}.timers
    WHERE due_at > fromUnixTimestamp64Micro({due_after:Int64}) AND due_at <= fromUnixTimestamp64Micro({now:Int64})
        AND tenant = '' AND {mine}
)
GROUP BY {key}
HAVING argMax(look_again, pass) > 0
