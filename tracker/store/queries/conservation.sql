-- Of some flows: ids that have events less ids that have a verdict, by origin time within a span. Both as one pass left them; `overtaken`: two have gone by.
SELECT flow, sum(n) AS difference, max(over) AS overtaken
FROM (
    SELECT flow, toInt64(count()) AS n, false AS over
    FROM (
        SELECT
            flow,
            message_id,
            minIf(toUnixTimestamp64Micro(origin_at), toUnixTimestamp64Micro(origin_at) > 0) AS carried,
            min(toUnixTimestamp64Micro(observed_at)) AS first_observed,
            multiIf(
                carried > 0, carried,
                {time_in_id} > 0, {time_in_id},
                first_observed
            ) AS origin
        FROM {db}.events
        WHERE tenant = '' AND flow IN {flows:Array(String)} AND {known} AND (flow, hop) IN (
            SELECT place.1, place.2 FROM (SELECT arrayJoin(arrayZip({of:Array(String)}, {hops:Array(String)})) AS place)
        )
        GROUP BY flow, message_id
    )
    WHERE origin >= {start:Int64} AND origin < {end:Int64}
    GROUP BY flow
    UNION ALL
    SELECT flow, -toInt64(countIf(state != '' AND origin >= {start:Int64} AND origin < {end:Int64})), max(pass > {pass:UInt64} + 1)
    FROM (
        -- A pass that is under way has replaced some rows already; these remember what they said before it.
        SELECT
            flow, pass,
            if(pass <= {pass:UInt64}, verdict, was) AS state,
            toUnixTimestamp64Micro(if(pass <= {pass:UInt64}, origin_at, origin_was)) AS origin
        FROM {db}.states FINAL
        WHERE tenant = '' AND flow IN {flows:Array(String)}
    )
    GROUP BY flow
)
GROUP BY flow
