-- How long messages took that became complete, by minute, of the last days; by hour before that. In seconds, within 1 %.
SELECT
    flow, hop, stage, toDateTime64(at, 6, 'UTC') AS at,
    took[1] / 1000000 AS p50, took[2] / 1000000 AS p95, took[3] / 1000000 AS p99
FROM (
    SELECT flow, hop, stage, toStartOfMinute(at) AS at, quantilesDDMerge(0.01, 0.5, 0.95, 0.99)(sketch) AS took
    FROM (SELECT flow, hop, stage, at, sketch FROM {db}.latencies FINAL WHERE tenant = '')
    GROUP BY flow, hop, stage, at
    UNION ALL
    SELECT flow, hop, stage, at, quantilesDDMerge(0.01, 0.5, 0.95, 0.99)(sketch) AS took
    FROM {db}.latency_hours FINAL
    WHERE tenant = '' AND at < (SELECT if(count() = 0, now('UTC'), toStartOfHour(min(at))) FROM {db}.latencies)
    GROUP BY flow, hop, stage, at
)
