-- Three books of one flow, per window of origin time: ids whose beginning was seen (events), ids without (events), ids per verdict (states).
SELECT window, sum(produced) AS produced, sum(orphans) AS orphans, sumMap(verdicts) AS verdicts
FROM (
    SELECT
        intDiv(origin, {step:Int64}) * {step:Int64} AS window,
        countIf(began) AS produced, countIf(NOT began) AS orphans, CAST(map(), 'Map(String, UInt64)') AS verdicts
    FROM ({origins})
    WHERE origin >= {start:Int64} AND origin < {end:Int64}
    GROUP BY window
    UNION ALL
    -- A window of -1 says that a row is two passes further on, so that what it said is not known any more.
    SELECT if(overtaken, -1, intDiv(origin, {step:Int64}) * {step:Int64}) AS window, toUInt64(0), toUInt64(0),
        sumMap(map(toString(state), toUInt64(1)))
    FROM (
        -- A pass that is under way has replaced some rows already; these remember what they said before it.
        SELECT
            pass > {pass:UInt64} + 1 AS overtaken,
            if(pass <= {pass:UInt64}, verdict, was) AS state,
            toUnixTimestamp64Micro(if(pass <= {pass:UInt64}, origin_at, origin_was)) AS origin
        FROM {db}.states FINAL
        WHERE tenant = '' AND flow = {flow:String}
    )
    WHERE overtaken OR (state != '' AND origin >= {start:Int64} AND origin < {end:Int64})
    GROUP BY window
)
GROUP BY window
ORDER BY window
