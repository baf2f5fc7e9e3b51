-- Messages as their events tell them, with the time they began: what an event carries, what is in the id, or when one was seen first.
SELECT
    {columns},
    minIf(toUnixTimestamp64Micro(origin_at), toUnixTimestamp64Micro(origin_at) > 0) AS carried,
    min(toUnixTimestamp64Micro(observed_at)) AS first_observed,
    multiIf(carried > 0, carried, {time_in_id} > 0, {time_in_id}, first_observed) AS origin
FROM {db}.events
WHERE tenant = '' AND {mine}
GROUP BY {by}
