-- Keeps what was counted within one hour, once no pass can add to it any more.
INSERT INTO {db}.settled_hours (tenant, flow, at, since, {counts}, newest)
SELECT tenant, flow, toDateTime({hour:UInt32}, 'UTC') AS hour, min(at), {sums}, max(newest)
FROM {db}.settled FINAL
WHERE tenant = '' AND at >= toDateTime({hour:UInt32}, 'UTC') AND at < toDateTime({hour:UInt32}, 'UTC') + 3600
GROUP BY tenant, flow
