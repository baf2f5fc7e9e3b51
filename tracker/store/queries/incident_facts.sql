-- One incident in numbers: its messages, when it began, could be known and was found, how its findings recovered, what is lost.
SELECT
    uniqExactIf(message_id, cause = '') AS messages,
    countIf(cause != '') AS caused,
    countIf(cause = '' AND {lost}) AS lost,
    countIf(cause = '' AND status = 'parked') AS parked,
    countIf(cause = '' AND status = 'abandoned') AS abandoned,
    minIf(toUnixTimestamp64Micro(origin_at), cause = '' AND origin_at > 0) AS first_origin,
    minIf(toUnixTimestamp64Micro(deadline), cause = '' AND deadline > 0) AS first_deadline,
    minIf(toUnixTimestamp64Micro(known_at), cause = '') AS first_known,
    minIf(toUnixTimestamp64Micro(opened_at), cause = '') AS first_opened,
    maxIf(toUnixTimestamp64Micro(opened_at), cause = '') AS last_opened,
    countIf(cause = '' AND status = 'recovered' AND by = 'replay') AS by_replay,
    countIf(cause = '' AND status = 'recovered' AND by = 'itself') AS by_itself,
    quantilesExactIf(0.5, 0.9)(toUnixTimestamp64Micro(resolved_at) - toUnixTimestamp64Micro(opened_at),
        cause = '' AND status = 'recovered' AND by = 'replay') AS replay_spans,
    quantilesExactIf(0.5, 0.9)(toUnixTimestamp64Micro(resolved_at) - toUnixTimestamp64Micro(opened_at),
        cause = '' AND status = 'recovered' AND by = 'itself') AS itself_spans
FROM {db}.findings FINAL
WHERE tenant = '' AND incident = {incident:String}
