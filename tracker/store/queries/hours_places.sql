-- One signal of checkpoints, hour by hour, as it is compared.
SELECT toString(flow) AS flow, toString(hop) AS hop, toString(stage) AS stage, {hour} AS i, {value} AS y
FROM {db}.latency_hours FINAL
WHERE tenant = '' AND flow IN {flows:Array(String)} AND {which} AND at >= toDateTime({start:UInt32}, 'UTC') AND at < toDateTime({end:UInt32}, 'UTC')
