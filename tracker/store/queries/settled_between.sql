-- What was counted of some flows in a span of time, by steps of it.
SELECT flow, toUnixTimestamp(toStartOfInterval(at, INTERVAL {step:UInt32} second, 'UTC')) AS start, {sums}, max(newest) AS newest
FROM (
    SELECT flow, at, {counts}, newest FROM {db}.settled FINAL
    WHERE tenant = '' AND flow IN {flows:Array(String)} AND at >= toDateTime({start:UInt32}, 'UTC') AND at < toDateTime({end:UInt32}, 'UTC')
        AND (at >= toDateTime({split:UInt32}, 'UTC') OR at < toDateTime({first:UInt32}, 'UTC') OR at >= toDateTime({last:UInt32}, 'UTC'))
    UNION ALL
    SELECT flow, at, {counts}, newest FROM {db}.settled_hours FINAL
    WHERE tenant = '' AND flow IN {flows:Array(String)} AND at >= toDateTime({first:UInt32}, 'UTC') AND at < toDateTime({last:UInt32}, 'UTC') AND at < toDateTime({split:UInt32}, 'UTC')
) AS s
GROUP BY flow, start
ORDER BY flow, start
