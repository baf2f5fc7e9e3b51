-- By (flow, hop, stage) the end of the slowest source's newest run. Who signed off is left out, and who vanished so long
-- before the newest of all that its time to live is over.
WITH (SELECT max(end_at) FROM {db}.coverage WHERE tenant = '' AND evidence != {refused:String} AND collector != '') AS newest
SELECT flow, hop, stage, toUnixTimestamp64Micro(min(last)) AS watermark
FROM (
    SELECT flow, hop, toString(stage) AS stage, source, max(end_at) AS last, argMax(signed_off, end_at) AS gone
    FROM {db}.coverage FINAL
    WHERE tenant = '' AND evidence != {refused:String} AND collector != ''
    GROUP BY flow, hop, stage, source
)
WHERE NOT gone AND toUnixTimestamp64Micro(last) >= toUnixTimestamp64Micro(newest) - {ttl:Int64}
GROUP BY flow, hop, stage
