-- One row per finding: what needed somebody, and how it ended.
SELECT
    finding_id, flow, message_id, hop, stage, kind, status, by, cause, incident, opened_at, known_at,
    nullIf(resolved_at, toDateTime64(0, 6, 'UTC')) AS resolved_at,
    nullIf(deadline, toDateTime64(0, 6, 'UTC')) AS deadline,
    nullIf(origin_at, toDateTime64(0, 6, 'UTC')) AS origin_at,
    held_by, why, pass
FROM {db}.findings FINAL
WHERE tenant = ''
