-- How long messages took that became complete in a span of time, end to end and by hop; seconds.
SELECT flow, hop, stage, arrayMap(us -> us / 1000000, quantilesDDMerge(0.01, 0.5, 0.95, 0.99)(sketch)) AS took
FROM (
    SELECT flow, hop, stage, sketch FROM {db}.latencies FINAL
    WHERE tenant = '' AND {mine} AND at >= toDateTime({start:UInt32}, 'UTC') AND at < toDateTime({end:UInt32}, 'UTC')
        AND (at >= toDateTime({split:UInt32}, 'UTC') OR at < toDateTime({first:UInt32}, 'UTC') OR at >= toDateTime({last:UInt32}, 'UTC'))
    UNION ALL
    SELECT flow, hop, stage, sketch FROM {db}.latency_hours FINAL
    WHERE tenant = '' AND {mine} AND at >= toDateTime({first:UInt32}, 'UTC') AND at < toDateTime({last:UInt32}, 'UTC') AND at < toDateTime({split:UInt32}, 'UTC')
)
GROUP BY flow, hop, stage
HAVING NOT isNaN(took[1])
ORDER BY flow, hop, stage
