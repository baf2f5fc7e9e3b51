-- What was counted of flows in a span of time, by steps of it, as series of the whole flow.
SELECT toString(flow) AS flow, '' AS hop, '' AS stage, toUInt32(intDiv(toUnixTimestamp(at) - {start:UInt32}, {step:UInt32})) AS slot,
    toFloat64(sum(begun)) AS begun, toFloat64(sum({settled})) AS settled, toFloat64(sum({missing})) AS missing, toFloat64(sum(duplicated)) AS duplicated
FROM {db}.settled FINAL
WHERE tenant = '' AND flow IN {flows:Array(String)} AND at >= toDateTime({start:UInt32}, 'UTC') AND at < toDateTime({end:UInt32}, 'UTC')
GROUP BY flow, slot
