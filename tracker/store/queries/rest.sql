-- The merged messages that are not plainly delivered, as rows of the states table up to the verdict's.
SELECT
    '' AS tenant, {of} AS flow, message_id, {pass:UInt64} AS pass,
    seen, ranged, hops, kept, gone, marks, observed, received,
    origin_carried, first_observed, first_received, produced_first, produced_last, deliveries, nodes, digests,
    origin_at, was, origin_was, found, timer_at, counted_was
FROM ({folded})
WHERE NOT ({delivered})
ORDER BY {key}
