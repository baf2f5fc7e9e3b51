-- Which message of one flow lies at which offset of which log. Where a pass that was cut short is done again, some lie
-- there twice, which changes nothing.
INSERT INTO {db}.positions
SELECT tenant, flow, hop, partition, offset, message_id, received_at
FROM {db}.events
WHERE tenant = '' AND flow = {flow:String} AND offset >= 0 AND stage IN ('persist', 'replicate') AND {new_since}
