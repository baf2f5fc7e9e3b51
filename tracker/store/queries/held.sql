-- Copies that a hop holds of one flow's messages and took in a span of time: deliveries kept there, neither dropped, acked nor parked.
SELECT message_id, copy.2 AS node, copy.3 AS digest, copy.5.1 AS delivery, copy.5.2 AS region, copy.5.3 AS size,
    copy.5.4 AS partition, copy.5.5 AS offset, copy.5.6 AS consumer_group, copy.5.7 AS attempt
FROM (
    SELECT message_id,
        arrayFilter(c -> NOT has(gone, c.1) AND c.4 >= {since:Int64} AND c.4 < {until:Int64}, copies) AS held
    FROM (
        SELECT message_id,
            groupArrayIf((text, place, payload, at, rest), keeps) AS copies,
            groupUniqArrayIf(text, keeps) AS kept,
            groupUniqArrayIf(text, NOT keeps) AS gone
        FROM (
            -- Copies of one event count once, at the earliest of their times.
            SELECT message_id, stage NOT IN ('drop', 'ack', 'dead_letter') AS keeps,
                multiIf(
                    delivery != '', delivery,
                    partition = '' AND offset < 0 AND consumer_group = '' AND attempt = 0, '',
                    concat(toString(partition), ':', if(offset < 0, '', toString(offset)), ':',
                        toString(consumer_group), ':', if(attempt = 0, '', toString(attempt)))
                ) AS text,
                toString(node) AS place,
                digest AS payload,
                min(toUnixTimestamp64Micro(observed_at)) AS at,
                argMin((delivery, toString(region), size, toString(partition), offset, toString(consumer_group), attempt),
                    observed_at) AS rest
            FROM {db}.events
            WHERE tenant = '' AND flow = {flow:String} AND hop = {hop:String} AND message_id > {after:String} AND {bound}
                AND stage IN ({stages}) AND NOT (stage = 'dead_letter' AND reason = {retry:String})
            GROUP BY message_id, keeps, text, place, payload
        )
        GROUP BY message_id
    )
    -- A queue's consumer names another delivery than its producer did: each such end took one copy, whichever.
    WHERE NOT has(gone, '')
        AND length(arrayFilter(d -> NOT has(gone, d), kept)) > length(arrayFilter(d -> NOT has(kept, d), gone))
)
ARRAY JOIN held AS copy
