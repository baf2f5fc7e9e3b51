-- Keeps the states of merged messages that are plainly delivered.
INSERT INTO {db}.states (tenant, flow, message_id, pass, seen, ranged, hops, kept, gone, marks, observed, received,
    origin_carried, first_observed, first_received, produced_first, produced_last, deliveries, nodes, digests,
    origin_at, verdict, was, origin_was, flags, found, look_again, timer_at, counted, counted_was)
SELECT '', {flow:String}, message_id, {pass:UInt64}, seen, ranged, hops, kept, gone, marks, observed, received,
    origin_carried, first_observed, first_received, produced_first, produced_last, deliveries, nodes, digests,
    fromUnixTimestamp64Micro(origin_at), 'delivered', was, fromUnixTimestamp64Micro(origin_was), [], false, 0, timer_at,
    bitOr(counted_was, {counted}), counted_was
FROM ({folded})
WHERE {delivered}
