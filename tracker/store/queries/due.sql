-- Adds the messages of one flow whose timer has come and that still wait for something, as rows without facts; one that
-- waits for a later time now gets its next timer by being judged again.
INSERT INTO {db}.{delta} (tenant, flow, message_id, origin_carried, first_observed, first_received, produced_first)
SELECT '', {flow:String}, message_id, {never}, {never}, {never}, {never}
FROM {db}.states
WHERE tenant = '' AND flow = {flow:String} AND {slice} AND message_id IN (
    SELECT message_id FROM {db}.timers
    WHERE due_at > fromUnixTimestamp64Micro({due_after:Int64}) AND due_at <= fromUnixTimestamp64Micro({now:Int64})
        AND tenant = '' AND flow = {flow:String}
)
GROUP BY message_id
HAVING argMax(look_again, pass) > 0
