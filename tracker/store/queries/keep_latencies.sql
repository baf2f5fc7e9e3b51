-- Keeps how long messages took that became complete in one pass: a sketch per flow, end to end and by hop.
INSERT INTO {db}.latencies (tenant, flow, hop, stage, at, pass, sketch)
SELECT '', flow,
    transform(place, {places:Array(String)}, {hops:Array(String)}, '') AS hop,
    transform(place, {places:Array(String)}, {stages:Array(String)}, '') AS stage,
    fromUnixTimestamp64Micro({now:Int64}), {pass:UInt64}, sketch
FROM (
    SELECT flow, concat(toString(flow), ' ', toString(i)) AS place, quantilesDDState(0.01, 0.5, 0.95, 0.99)(toFloat64(took)) AS sketch
    FROM (
        SELECT flow, {took} AS times
        FROM {db}.states {final}
        WHERE tenant = '' AND pass = {pass:UInt64} AND flow IN {flows:Array(String)}
            AND bitAnd(counted, {complete}) != 0 AND bitAnd(counted_was, {complete}) = 0
    )
    ARRAY JOIN times AS took, arrayEnumerate(times) AS i
    WHERE took >= 0
    GROUP BY flow, i
)
