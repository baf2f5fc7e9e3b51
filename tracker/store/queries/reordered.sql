-- Who was overtaken: among the messages that stand in a line in which a pass saw something new, and near to that.
INSERT INTO {db}.reordered
WITH fresh AS (
    SELECT line, min(made) AS least_made, min(seen) AS least_seen FROM {db}.lines
    WHERE {place} AND pass = {pass:UInt64}
    GROUP BY line
)
SELECT
    '' AS tenant, {flow:String} AS flow, message_id, {hop:String} AS hop, {stage:String} AS stage, passed_by,
    {pass:UInt64} AS pass
FROM (
    SELECT message_id, max(is_new) AS renewed, argMinIf(ahead.2, ahead.1, ahead.1 < earliest) AS passed_by
    FROM (
        -- The earliest that any message produced later was observed, as it stands when the line is walked backwards.
        SELECT
            message_id, is_new, asks, earliest,
            min((if(asks, {never:Int64}, latest), if(asks, '', message_id))) OVER (
                PARTITION BY line, kind, apart ORDER BY if(asks, made_last, made_first) DESC, asks DESC
                ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
            ) AS ahead
        FROM (
            -- Each message asks as one that may have been overtaken and tells as one that may have overtaken. Nodes are
            -- compared four ways: any with any beyond their errors, and those of one clock as they are.
            SELECT
                message_id, line, pass = {pass:UInt64} AS is_new,
                arrayJoin([true, false]) AS asks,
                arrayJoin([
                    (0, toUInt64(0), made_error, seen_error), (1, maker, toInt64(0), seen_error),
                    (2, node, made_error, toInt64(0)), (3, sipHash64(maker, node), toInt64(0), toInt64(0))
                ]) AS way,
                way.1 AS kind, way.2 AS apart,
                made - way.3 AS made_first, made + way.3 AS made_last,
                since - way.4 AS earliest, seen + way.4 AS latest
            FROM (
                SELECT * FROM {db}.lines
                INNER JOIN fresh USING (line)
                WHERE {place} AND line IN (SELECT line FROM fresh)
                    AND seen >= (SELECT min(least_seen) FROM fresh) - {look_back:Int64}
                    AND (made >= least_made OR seen >= least_seen)
                ORDER BY pass DESC
                LIMIT 1 BY message_id
            )
        )
    )
    WHERE asks
    GROUP BY message_id
)
WHERE passed_by != '' OR (renewed AND message_id IN (
    SELECT message_id FROM {db}.reordered FINAL WHERE {place} AND passed_by != ''
))
