-- Signals that were not as usual, with what was expected and what came.
SELECT
    flow, hop, stage, signal, direction,
    toDateTime64(since, 6, 'UTC') AS since,
    toDateTime64(opened_at, 6, 'UTC') AS noticed_at,
    toDateTime64(last_at, 6, 'UTC') AS last_at,
    if(toUnixTimestamp(until) = 0, NULL, toDateTime64(until, 6, 'UTC')) AS ended_at,
    ended_by, expected, came, distance, baseline
FROM {db}.anomalies FINAL
WHERE tenant = ''
