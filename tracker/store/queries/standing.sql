-- Where the messages that are new in a pass, and those that one of them had overtaken, stand in their lines.
INSERT INTO {db}.lines
WITH touched AS (
    SELECT DISTINCT message_id FROM {db}.events
    WHERE tenant = '' AND flow = {flow:String} AND ({roots} OR {here}) AND {new_since}
)
SELECT
    '' AS tenant, {flow:String} AS flow, {hop:String} AS hop, {stage:String} AS stage,
    sipHash64(group, placed, place.1) AS line,
    if(placed, place.2, birth.1) AS made,
    message_id,
    if(placed, 0, birth.3) AS made_error,
    if(placed, 0, sipHash64(birth.2)) AS maker,
    sight.2 AS since, sight.1 AS seen, sight.4 AS seen_error, sipHash64(sight.3) AS node,
    {pass:UInt64} AS pass
FROM (
    SELECT
        message_id,
        countIf(stands) > 0 AS placed,
        minIf((partition, offset), stands) AS place,
        minIf((made_at, node, error), begins) AS birth,
        minIf((at, at - observed_span, node, error), is_here) AS sight,
        {group} AS group
    FROM (
        SELECT
            message_id, node, observed_span, partition, offset,
            {roots} AND replay_id = '' AS begins,
            {here} AS is_here,
            begins AND offset >= 0 AND partition != '' AS stands,
            toUnixTimestamp64Micro(observed_at) AS at,
            toUnixTimestamp64Micro(origin_at) AS origin,
            if(origin > 0, origin + clock_offset, at) AS made_at,
            if(clock_error < 0, {unmeasured:Int64}, clock_error) AS error,
            if(key_hash != 0, toString(key_hash), key) AS key_text
        FROM {db}.events
        WHERE tenant = '' AND flow = {flow:String} AND ({roots} OR {here}) AND {known} AND message_id IN (
            SELECT message_id FROM touched
            UNION ALL
            SELECT message_id FROM {db}.reordered FINAL
            WHERE tenant = '' AND flow = {flow:String} AND hop = {hop:String} AND stage = {stage:String}
                AND passed_by IN (SELECT message_id FROM touched)
        )
    )
    GROUP BY message_id
    HAVING countIf(begins) > 0 AND countIf(is_here) > 0
)
WHERE group != ''
