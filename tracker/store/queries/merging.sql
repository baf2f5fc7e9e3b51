-- What is new of messages, merged with what was known of them: one row per message.
SELECT
    {key}, seen, ranged, hops, kept, gone, marks,
    arrayResize(observed, {width}, {never}) AS observed,
    arrayResize(received, {width}, {never}) AS received,
    origin_carried, first_observed, first_received, produced_first, produced_last, deliveries, nodes, digests,
    multiIf(origin_carried < {never}, origin_carried, {time_in_id} > 0, {time_in_id}, first_observed) AS origin_at,
    was, origin_was, found, timer_at, counted_was
FROM (
    SELECT
        {key},
        groupBitOr(seen) AS seen,
        groupBitOr(ranged) AS ranged,
        groupBitOr(hops) AS hops,
        groupBitOr(kept) AS kept,
        groupBitOr(gone) AS gone,
        groupBitOr(marks) AS marks,
        minForEach(observed) AS observed,
        minForEach(received) AS received,
        min(origin_carried) AS origin_carried,
        min(first_observed) AS first_observed,
        min(first_received) AS first_received,
        min(produced_first) AS produced_first,
        max(produced_last) AS produced_last,
        groupUniqArrayArray(64)(deliveries) AS deliveries,
        groupUniqArrayArray(64)(nodes) AS nodes,
        groupUniqArrayArray(4)(digests) AS digests,
        toString(if(max(number) = {pass:UInt64}, argMax(before, number), argMax(verdict, number))) AS was,
        if(max(number) = {pass:UInt64}, argMax(origin_before, number), argMax(origin, number)) AS origin_was,
        max(found) AS found,
        argMax(timer, number) AS timer_at,
        if(max(number) = {pass:UInt64}, argMax(counted_before, number), argMax(counted, number)) AS counted_was
    FROM (
        SELECT {key}, seen, ranged, hops, kept, gone, marks, observed, received, origin_carried, first_observed,
            first_received, produced_first, produced_last, deliveries, nodes, digests,
            toUInt64(0) AS number, '' AS verdict, '' AS before, toInt64(0) AS origin,
            toInt64(0) AS origin_before, false AS found, toInt64(0) AS timer, toUInt8(0) AS counted, toUInt8(0) AS counted_before
        FROM {db}.{delta}
        WHERE {several}
        UNION ALL
        SELECT {key}, seen, ranged, hops, kept, gone, marks, observed, received, origin_carried, first_observed,
            first_received, produced_first, produced_last, deliveries, nodes, digests,
            pass, verdict, was, toUnixTimestamp64Micro(origin_at), toUnixTimestamp64Micro(origin_was), found, timer_at,
            counted, counted_was
        FROM {db}.states
        WHERE tenant = '' AND {mine} AND {slice} AND {is_known}
    )
    GROUP BY {key}
)
