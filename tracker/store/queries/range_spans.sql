-- Which stretches of which logs a pass has to hold against the ranges at one (hop, stage): those that new ranges moved
-- past, and those in which something was newly persisted. What lies in a log that the flow does not name is no evidence.
SELECT log, partition, min(low) AS low, max(high) AS high
FROM (
    SELECT log, partition, min(offset) AS low, max(offset_to) AS high FROM {db}.ranges
    WHERE tenant = '' AND flow = {flow:String} AND hop = {hop:String} AND stage = {stage:String}
        AND offset < offset_to AND {new_since}
    GROUP BY log, partition
    UNION ALL
    SELECT hop AS log, partition, min(offset) AS low, max(offset) + 1 AS high FROM {db}.events
    WHERE tenant = '' AND flow = {flow:String} AND offset >= 0 AND stage IN ('persist', 'replicate')
        AND {slice} AND {placed}
    GROUP BY hop, partition
)
WHERE log IN {named:Array(String)} AND (log, partition) IN (
    SELECT log, partition FROM {db}.ranges
    WHERE tenant = '' AND flow = {flow:String} AND hop = {hop:String} AND stage = {stage:String} AND {until}
)
GROUP BY log, partition
