-- Adds the messages of one flow whose verdict is blind, as rows without facts: coverage has grown.
INSERT INTO {db}.{delta} (tenant, flow, message_id, origin_carried, first_observed, first_received, produced_first)
SELECT '', {flow:String}, message_id, {never}, {never}, {never}, {never}
FROM {db}.states
WHERE tenant = '' AND flow = {flow:String}
GROUP BY message_id
HAVING argMax(verdict, pass) = 'blind'
