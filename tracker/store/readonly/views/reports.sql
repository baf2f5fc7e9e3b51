-- One row per coverage report of a collector.
SELECT
    collector, epoch, sequence, received_at, events, lag_ms, backlog, dropped, length(sources) AS sources, clock_offset,
    nullIf(clock_error, -1) AS clock_error
FROM {db}.reports
WHERE tenant = ''
