-- By (flow, hop, stage) the end of the slowest source's newest run. Who signed off is left out, and who vanished so long
-- before the newest of all that its time to live is over. Where nobody is left, and the last one to end had not signed
-- off, the place is deserted: what he vouched for last stands, so that it is told for as long as it lasts.
WITH (SELECT max(end_at) FROM {db}.coverage WHERE tenant = '' AND evidence != {refused:String} AND collector != '') AS newest
SELECT flow, hop, stage, toUnixTimestamp64Micro(if(countIf(alive) > 0, minIf(last, alive), maxIf(last, NOT gone))) AS watermark
FROM (
    SELECT flow, hop, toString(stage) AS stage, source, max(end_at) AS last, argMax(signed_off, (end_at, signed_off)) AS gone,
        toUnixTimestamp64Micro(last) + if(gone, 0, {ttl:Int64}) AS closed,
        NOT gone AND closed >= toUnixTimestamp64Micro(newest) AS alive
    FROM {db}.coverage FINAL
    WHERE tenant = '' AND evidence != {refused:String} AND collector != ''
    GROUP BY flow, hop, stage, source
)
GROUP BY flow, hop, stage
HAVING countIf(alive) > 0 OR NOT argMax(gone, closed)
