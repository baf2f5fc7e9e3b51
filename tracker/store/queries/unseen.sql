-- Messages that were handed to a hop in a span of time and were never seen there, as copies of which nothing is known.
SELECT message_id, '' AS node, toUInt64(0) AS digest, '' AS delivery, '' AS region, toUInt64(0) AS size, '' AS partition,
    toInt64(-1) AS offset, '' AS consumer_group, toUInt16(0) AS attempt
FROM {db}.events
WHERE tenant = '' AND flow = {flow:String} AND message_id > {after:String} AND {bound}
    AND (hop = {hop:String} OR {handed})
GROUP BY message_id
HAVING countIf(hop = {hop:String}) = 0
    AND max(toUnixTimestamp64Micro(observed_at)) >= {since:Int64} AND max(toUnixTimestamp64Micro(observed_at)) < {until:Int64}
