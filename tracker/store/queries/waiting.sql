-- Adds all messages of one flow that wait for something, as rows without facts: its timers were left out for a while.
INSERT INTO {db}.{delta} (tenant, flow, message_id, origin_carried, first_observed, first_received, produced_first)
SELECT '', {flow:String}, message_id, {never}, {never}, {never}, {never}
FROM {db}.states
WHERE tenant = '' AND flow = {flow:String} AND {slice}
GROUP BY message_id
HAVING argMax(look_again, pass) > 0
