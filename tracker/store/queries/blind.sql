-- Adds the messages of one flow of which something may be unknown, as rows without facts: coverage has grown. Those whose
-- verdict is blind, and those that lack something else, too, and are looked at again.
INSERT INTO {db}.{delta} (tenant, flow, message_id, origin_carried, first_observed, first_received, produced_first)
SELECT '', {flow:String}, message_id, {never}, {never}, {never}, {never}
FROM {db}.states
WHERE tenant = '' AND flow = {flow:String} AND {slice} AND message_id IN (
    SELECT message_id FROM {db}.states WHERE tenant = '' AND flow = {flow:String} AND {slice} AND ({unclear})
)
GROUP BY message_id
HAVING argMax(({unclear}), pass)
