-- Merges what is new into the states of the messages it touches and judges those to which nothing special happened;
-- the verdict of the others is left empty, for the reference judge.
INSERT INTO {db}.work
SELECT
    '' AS tenant, {flow:String} AS flow, message_id, {pass:UInt64} AS pass,
    seen, ranged, hops, marks, observed, received, origin_carried, first_observed, first_received,
    produced_first, produced_last, deliveries, digests,
    fromUnixTimestamp64Micro(origin, 'UTC') AS origin_at,
    multiIf(
        {reference} OR found OR bitAnd(marks, {special}) != 0 OR length(digests) > 1 OR origin < {in_force}
            OR {due} OR {gap}, '',
        {waiting}, 'in_flight',
        {late}, 'late',
        'delivered'
    ) AS verdict,
    was,
    arrayFilter(flag -> flag != '', [
        if({orphan}, 'orphan', ''),
        if(bitAnd(marks, {replayed}) != 0, 'replayed', ''),
        if({duplicated}, 'duplicated', ''),
        if({skewed}, 'skewed', ''),
        if(produced_last > 0 AND produced_first < {never} AND produced_last - produced_first > {longest}, 'reused_id', '')
    ]) AS flags,
    found,
    if(soonest = {never}, 0, soonest) AS look_again,
    if(verdict != '' AND look_again > 0 AND (timer = 0 OR timer <= {now:Int64} OR look_again < timer), look_again, timer) AS timer_at
FROM (
    SELECT *,
        {now:Int64} + least(greatest(intDiv({now:Int64} - first_received, 4), 1000000), 300000000) AS recheck,
        {aliases},
        {look_again} AS soonest
    FROM (
        SELECT
            message_id,
            groupBitOr(seen) AS seen,
            groupBitOr(ranged) AS ranged,
            groupBitOr(hops) AS hops,
            groupBitOr(marks) AS marks,
            minForEach(observed) AS observed,
            minForEach(received) AS received,
            min(origin_carried) AS origin_carried,
            min(first_observed) AS first_observed,
            min(first_received) AS first_received,
            min(produced_first) AS produced_first,
            max(produced_last) AS produced_last,
            groupUniqArrayArray(64)(deliveries) AS deliveries,
            groupUniqArrayArray(4)(digests) AS digests,
            if(max(pass) = {pass:UInt64}, argMax(was, pass), argMax(verdict, pass)) AS was,
            max(found) AS found,
            argMax(timer_at, pass) AS timer,
            multiIf(
                origin_carried < {never}, origin_carried,
                {time_in_id} > 0, {time_in_id},
                first_observed
            ) AS origin
        FROM (
            SELECT message_id, seen, ranged, hops, marks, observed, received, origin_carried, first_observed,
                first_received, produced_first, produced_last, deliveries, digests,
                toUInt64(0) AS pass, '' AS verdict, '' AS was, false AS found, toInt64(0) AS timer_at
            FROM {db}.delta
            UNION ALL
            SELECT message_id, seen, ranged, hops, marks, observed, received, origin_carried, first_observed,
                first_received, produced_first, produced_last, deliveries, digests,
                pass, verdict, was, found, timer_at
            FROM {db}.states
            WHERE tenant = '' AND flow = {flow:String} AND message_id IN (SELECT message_id FROM {db}.delta)
        )
        GROUP BY message_id
    )
)
