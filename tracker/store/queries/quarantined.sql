-- Lines that could not be used and were not taken since, behind a place, oldest first; copies of a line are one.
SELECT source, line, field, reason, raw, flow, toUnixTimestamp64Micro(received_at) AS received
FROM {db}.quarantine
WHERE received_at >= fromUnixTimestamp64Micro({since:Int64}) AND received_at < fromUnixTimestamp64Micro({until:Int64})
    AND (toUnixTimestamp64Micro(received_at), source, line) > ({received:Int64}, {source:String}, {line:UInt32})
    AND ({flow:String} = '' OR flow = {flow:String})
    AND ({of:String} = '' OR source = {of:String})
    AND ({field:String} = '' OR field = {field:String})
    AND (received_at, source, line) NOT IN (
        SELECT received_at, source, line FROM {db}.resubmitted
        WHERE received_at >= fromUnixTimestamp64Micro({since:Int64})
            AND received_at < fromUnixTimestamp64Micro({until:Int64})
    )
ORDER BY received_at, source, line
LIMIT 1 BY received_at, source, line
LIMIT {limit:UInt32}
