-- Keeps what took how long, and who was due to see and saw what, of one pass, by flow and checkpoint.
INSERT INTO {db}.latencies (tenant, flow, hop, stage, at, pass, sketch, due, seen)
SELECT '', flow,
    transform(place, {places:Array(String)}, {hops:Array(String)}, '') AS hop,
    transform(place, {places:Array(String)}, {stages:Array(String)}, '') AS stage,
    fromUnixTimestamp64Micro({now:Int64}), {pass:UInt64}, sketch, due, here
FROM (
    SELECT flow, concat(toString(flow), ' ', toString(i)) AS place,
        quantilesDDStateIf(0.01, 0.5, 0.95, 0.99)(toFloat64(one.1), complete AND one.1 >= 0) AS sketch,
        countIf(settled AND bitTest(one.2, 0)) AS due, countIf(settled AND bitTest(one.2, 1)) AS here,
        countIf(complete AND one.1 >= 0) AS samples
    FROM (
        SELECT flow, {took} AS ways,
            bitAnd(counted, {complete}) != 0 AND bitAnd(counted_was, {complete}) = 0 AS complete,
            bitAnd(counted, {either}) != 0 AND bitAnd(counted_was, {either}) = 0 AS settled
        FROM {db}.states {final}
        WHERE tenant = '' AND pass = {pass:UInt64} AND flow IN {flows:Array(String)} AND (complete OR settled)
    )
    ARRAY JOIN ways AS one, arrayEnumerate(ways) AS i
    GROUP BY flow, i
    HAVING samples > 0 OR due > 0
)
