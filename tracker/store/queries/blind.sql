-- Adds the messages of which something may be unknown, as rows without facts: coverage has grown. Those whose
-- verdict is blind, and those that lack something else, too, and are looked at again; but none that was due before the
-- moment from which on it has grown.
INSERT INTO {db}.{delta} (tenant, flow, message_id, origin_carried, first_observed, first_received, produced_first)
SELECT '', {of}, message_id, {never}, {never}, {never}, {never}
FROM {db}.states
WHERE tenant = '' AND {mine} AND {slice} AND ({key}) IN (
    SELECT {key} FROM {db}.states WHERE tenant = '' AND {mine} AND {slice} AND ({unclear})
)
GROUP BY {key}
HAVING argMax(({unclear}) AND {due_since}, pass)
