-- What came before that column was there, from places that nobody watches yet, came unannounced. Cost: metadata
INSERT INTO {db}.heard (tenant, flow, hop, stage, received_at, unannounced_at)
SELECT tenant, flow, hop, stage, received_at, received_at FROM {db}.heard
WHERE (tenant, flow, hop, stage) NOT IN (SELECT tenant, flow, hop, stage FROM {db}.coverage)
