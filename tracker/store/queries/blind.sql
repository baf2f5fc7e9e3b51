-- Adds the messages of one flow whose verdict is blind, as rows without facts: coverage has grown.
INSERT INTO {db}.{delta} (tenant, flow, message_id, origin_carried, first_observed, first_received, produced_first)
SELECT '', {flow:String}, message_id, {never}, {never}, {never}, {never}
FROM {db}.states
WHERE tenant = '' AND flow = {flow:String} AND {slice} AND message_id IN (
    SELECT message_id FROM {db}.states WHERE tenant = '' AND flow = {flow:String} AND {slice} AND verdict = 'blind'
)
GROUP BY message_id
HAVING argMax(verdict, pass) = 'blind'
