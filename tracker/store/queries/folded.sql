-- All folded messages of one flow: those that nothing was known of as they are, the others as they were merged.
SELECT
    message_id, seen, ranged, hops, kept, gone, marks, observed, received, origin_carried, first_observed,
    first_received, produced_first, produced_last, deliveries, nodes, digests,
    multiIf(origin_carried < {never}, origin_carried, {time_in_id} > 0, {time_in_id}, first_observed) AS origin_at,
    '' AS was, toInt64(0) AS origin_was, false AS found, toInt64(0) AS timer_at, toUInt8(0) AS counted_was
FROM {db}.{delta}
WHERE NOT ({several})
UNION ALL
SELECT * FROM {db}.{merged}
