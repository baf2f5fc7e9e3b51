-- Keeps how many messages of each flow were counted as what in one pass, from the states that it left.
INSERT INTO {db}.settled (tenant, flow, at, pass, begun, {verdicts}, blind, explained, complete, duplicated, diverged,
    turned_good, turned_bad, newest)
SELECT '', flow, fromUnixTimestamp64Micro({now:Int64}), {pass:UInt64}, countIf(was = ''),
    {settled},
    countIf(bitAnd(fresh, {blind}) != 0), countIf(bitAnd(fresh, {explained}) != 0),
    countIf(bitAnd(fresh, {complete}) != 0), countIf(bitAnd(fresh, {duplicated}) != 0),
    countIf(bitAnd(fresh, {diverged}) != 0),
    countIf(bitAnd(fresh, {good}) != 0 AND bitAnd(counted_was, {bad}) != 0 AND NOT has(flags, 'replayed')),
    countIf(bitAnd(fresh, {bad}) != 0 AND bitAnd(counted_was, {good}) != 0),
    maxIf(toUnixTimestamp64Micro(origin_at), bitAnd(fresh, {complete}) != 0)
FROM (
    SELECT flow, verdict, was, flags, counted_was, origin_at, bitAnd(counted, bitNot(counted_was)) AS fresh
    FROM {db}.states {final}
    WHERE tenant = '' AND pass = {pass:UInt64}
)
GROUP BY flow
