-- Messages of one flow and span of origin that are not delivered or had a finding, as one pass left them; a row per finding.
SELECT message_id, said AS verdict, place.1 AS hop, place.2 AS stage,
    if(place.3 = '', said, place.3) AS kind, place.4 AS status
FROM (
    SELECT message_id, max(state) AS said, groupArrayArray(places) AS found
    FROM (
        -- A pass that is under way has replaced some rows already; these remember what they said before it. What is
        -- two passes further on does not, and says so.
        SELECT message_id,
            multiIf(pass > {pass:UInt64} + 1, 'overtaken', pass <= {pass:UInt64}, toString(verdict), toString(was)) AS state,
            CAST([], 'Array(Tuple(String, String, String, String))') AS places
        FROM {db}.states FINAL
        WHERE tenant = '' AND flow = {flow:String} AND state != '' AND (
            (pass != {pass:UInt64} + 1 AND origin_at >= fromUnixTimestamp64Micro({start:Int64})
                AND origin_at < fromUnixTimestamp64Micro({end:Int64}))
            OR (pass > {pass:UInt64} AND origin_was >= fromUnixTimestamp64Micro({start:Int64})
                AND origin_was < fromUnixTimestamp64Micro({end:Int64}))
        )
        UNION ALL
        -- What that pass has resolved was open before it; what it has opened is left out.
        SELECT message_id, '',
            [(toString(hop), toString(stage), toString(kind),
                if(min(pass) <= {pass:UInt64}, argMaxIf(toString(status), pass, pass <= {pass:UInt64}), 'open'))]
        FROM {db}.findings
        WHERE tenant = '' AND flow = {flow:String}
        GROUP BY message_id, hop, stage, kind
        HAVING min(toUnixTimestamp64Micro(opened_at)) <= {as_of:Int64}
    )
    GROUP BY message_id
    HAVING said != '' AND (said != 'delivered' OR notEmpty(found))
)
LEFT ARRAY JOIN found AS place
