-- What was observed of one message of which much is stored: copies of an event as one, at the earliest of their times.
SELECT {fields}
FROM (
    SELECT * REPLACE (
            min(received_at) OVER copies AS received_at,
            ifNull(min(nullIf(origin_at, {none})) OVER copies, {none}) AS origin_at,
            if(replay_id != '', replay_id, max(replay_id) OVER copies) AS replay_id
        ),
        multiIf(
            delivery != '', delivery,
            partition = '' AND offset < 0 AND consumer_group = '' AND attempt = 0, '',
            concat(toString(partition), ':', if(offset < 0, '', toString(offset)), ':',
                toString(consumer_group), ':', if(attempt = 0, '', toString(attempt)))
        ) AS text
    FROM {db}.events
    WHERE tenant = '' AND flow = {flow:String} AND message_id = {id:String}
    WINDOW copies AS (PARTITION BY hop, stage, node, digest, text)
    ORDER BY observed_at, received_at
    LIMIT 1 BY hop, stage, node, digest, text
)
ORDER BY observed_at
LIMIT {limit:UInt32}
