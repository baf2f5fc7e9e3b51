-- Incidents as their findings tell of them; owner, status and notes are in the control database: GET /v1/incidents.
SELECT
    incident, flow, hop, kind,
    count() AS findings,
    uniqExact(message_id) AS messages,
    countIf(status = 'open') AS open,
    countIf(status = 'recovered') AS recovered,
    min(known_at) AS first_known_at,
    min(opened_at) AS first_opened_at,
    max(opened_at) AS last_opened_at,
    nullIf(max(resolved_at), toDateTime64(0, 6, 'UTC')) AS last_resolved_at
FROM {db}.findings FINAL
WHERE tenant = '' AND incident != '' AND cause = ''
GROUP BY incident, flow, hop, kind
