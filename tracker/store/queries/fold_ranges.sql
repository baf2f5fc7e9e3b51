-- Adds the messages of one flow that ranges moved past at one (hop, stage): new ranges over what was persisted, and
-- what was newly persisted under the ranges known.
INSERT INTO {db}.{delta}
WITH taken AS (
    SELECT log, partition, offset, offset_to, observed_from, received_at FROM {db}.ranges
    WHERE tenant = '' AND flow = {flow:String} AND hop = {hop:String} AND stage = {stage:String}
        AND offset < offset_to AND {until}
),
edges AS (
    SELECT log, partition, offset, row_number() OVER along AS n, leadInFrame(offset) OVER along AS offset_to
    FROM (SELECT DISTINCT log, partition, arrayJoin([offset, offset_to]) AS offset FROM taken)
    WINDOW along AS (PARTITION BY log, partition ORDER BY offset ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
)
SELECT
    '' AS tenant,
    {flow:String} AS flow,
    message_id,
    toUInt64({mask:UInt64}) AS seen,
    toUInt64({mask:UInt64}) AS ranged,
    toUInt64(0) AS hops,
    toUInt64(0) AS kept,
    toUInt64(0) AS gone,
    toUInt32(0) AS marks,
    arrayMap(b -> if(b = {bit:UInt8}, passed, {never}), range({bit:UInt8} + 1)) AS observed,
    arrayMap(b -> if(b = {bit:UInt8}, got, {never}), range({bit:UInt8} + 1)) AS received,
    {never}, {never}, {never}, {never}, toInt64(0),
    CAST([], 'Array(UInt64)'),
    CAST([], 'Array(UInt64)'),
    CAST([], 'Array(UInt64)')
FROM (
    SELECT place.message_id AS message_id,
        min(moved.since) AS passed,
        min(moved.receipt) AS got
    FROM (
        SELECT hop, partition, offset, message_id FROM {db}.events
        WHERE tenant = '' AND flow = {flow:String} AND offset >= 0 AND stage IN ('persist', 'replicate') AND {new_since}
        UNION ALL
        SELECT p.hop, p.partition, p.offset, p.message_id
        FROM {db}.positions AS p
        INNER JOIN (
            SELECT log, partition, min(offset) AS low, max(offset_to) AS high FROM {db}.ranges
            WHERE tenant = '' AND flow = {flow:String} AND hop = {hop:String} AND stage = {stage:String} AND {new_since}
            GROUP BY log, partition
        ) AS fresh ON p.hop = fresh.log AND p.partition = fresh.partition
        WHERE p.tenant = '' AND p.flow = {flow:String} AND p.offset >= fresh.low AND p.offset < fresh.high
    ) AS place
    ASOF INNER JOIN (
        -- Ranges may lie over one another: cut at each other's ends, each piece with the earliest times of all over it.
        SELECT piece.log AS log, piece.partition AS partition, edge.offset AS offset, edge.offset_to AS offset_to,
            piece.since AS since, piece.receipt AS receipt
        FROM (
            SELECT log, partition, arrayJoin(range(low.n, high.n)) AS n,
                min(toUnixTimestamp64Micro(observed_from)) AS since,
                min(toUnixTimestamp64Micro(received_at)) AS receipt
            FROM taken
            INNER JOIN edges AS low ON taken.log = low.log AND taken.partition = low.partition
                AND taken.offset = low.offset
            INNER JOIN edges AS high ON taken.log = high.log AND taken.partition = high.partition
                AND taken.offset_to = high.offset
            GROUP BY log, partition, n
        ) AS piece
        INNER JOIN edges AS edge ON piece.log = edge.log AND piece.partition = edge.partition AND piece.n = edge.n
    ) AS moved ON place.hop = moved.log AND place.partition = moved.partition AND place.offset >= moved.offset
    WHERE place.offset < moved.offset_to AND {slice}
    GROUP BY message_id
)
