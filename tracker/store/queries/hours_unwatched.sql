-- The hours of which a tenth or more was not watched, by place.
SELECT toString(flow) AS flow, toString(hop) AS hop, toString(stage) AS stage, toUInt32(intDiv(toUnixTimestamp(at) - {start:UInt32}, 3600)) AS i, {value} AS y, {blind} AS blind
FROM {db}.unwatched FINAL
WHERE tenant = '' AND flow IN {flows:Array(String)} AND at >= toDateTime({start:UInt32}, 'UTC') AND at < toDateTime({end:UInt32}, 'UTC')
GROUP BY flow, hop, stage, i
HAVING sum(missing) >= 360
