-- Of some flows: ids that have events less ids that have a verdict, by origin time within a span. Both as one pass left them; `overtaken`: two have gone by.
SELECT flow, sum(n) AS difference, max(over) AS overtaken
FROM (
    SELECT flow, toInt64(count()) AS n, false AS over
    FROM ({origins})
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
