-- One row per message: what became of it.
SELECT
    flow, message_id, verdict, flags, origin_at,
    fromUnixTimestamp64Micro(first_observed, 'UTC') AS first_observed_at,
    fromUnixTimestamp64Micro(first_received, 'UTC') AS first_received_at,
    found AS had_finding, pass
FROM {db}.states FINAL
WHERE tenant = ''
