-- How much of each hour was not watched, by place, as it is compared; where a tenth was.
SELECT toString(flow) AS flow, toString(hop) AS hop, toString(stage) AS stage, {hour} AS i, sqrt(least(sum(missing) / 3600, 1)) AS y
FROM {db}.unwatched FINAL
WHERE tenant = '' AND flow IN {flows:Array(String)} AND at >= toDateTime({start:UInt32}, 'UTC') AND at < toDateTime({end:UInt32}, 'UTC')
GROUP BY flow, hop, stage, i
HAVING sum(missing) >= 360
