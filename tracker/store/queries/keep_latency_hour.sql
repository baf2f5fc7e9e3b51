-- Keeps how long messages took that became complete within one hour, once no pass can add to it any more.
INSERT INTO {db}.latency_hours (tenant, flow, hop, stage, at, sketch, due, seen)
SELECT tenant, flow, hop, stage, toDateTime({hour:UInt32}, 'UTC') AS hour, quantilesDDMergeState(0.01, 0.5, 0.95, 0.99)(sketch), sum(due), sum(seen)
FROM {db}.latencies FINAL
WHERE tenant = '' AND at >= toDateTime({hour:UInt32}, 'UTC') AND at < toDateTime({hour:UInt32}, 'UTC') + 3600
GROUP BY tenant, flow, hop, stage
