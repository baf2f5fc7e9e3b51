-- How many messages checkpoints were due to see, saw, and how long the way to them took, by steps of a span of time.
SELECT toString(flow) AS flow, toString(hop) AS hop, toString(stage) AS stage,
    toUInt32(intDiv(toUnixTimestamp(at) - {start:UInt32}, {step:UInt32})) AS slot,
    toFloat64(sum(due)) AS due, toFloat64(sum(seen)) AS seen, quantilesDDMerge(0.01, 0.5, 0.95, 0.99)(sketch)[1] AS took
FROM {db}.latencies FINAL
WHERE tenant = '' AND flow IN {flows:Array(String)} AND at >= toDateTime({start:UInt32}, 'UTC') AND at < toDateTime({end:UInt32}, 'UTC')
GROUP BY flow, hop, stage, slot
