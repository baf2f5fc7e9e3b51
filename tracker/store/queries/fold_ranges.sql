-- Adds the messages of one flow that ranges moved past, or dropped, at one (hop, stage): new ranges over what was
-- persisted, and what was newly persisted under the ranges known. Of these, only what reaches into the stretches at hand (`range_spans`)
-- is looked at, and only so far: a pass costs what is new, however many ranges there were before.
INSERT INTO {db}.{delta}
WITH spans AS (
    SELECT span.1 AS log, span.2 AS partition, span.3 AS low, span.4 AS high
    FROM (
        SELECT arrayJoin(arrayZip({logs:Array(String)}, {partitions:Array(String)}, {lows:Array(Int64)},
            {highs:Array(Int64)})) AS span
    )
),
taken AS (
    SELECT log, partition, greatest(ranges.offset, spans.low) AS begin, least(ranges.offset_to, spans.high) AS end,
        ranges.observed_from AS observed_from, ranges.received_at AS received_at
    FROM {db}.ranges AS ranges
    INNER JOIN spans ON ranges.log = spans.log AND ranges.partition = spans.partition
    WHERE ranges.tenant = '' AND ranges.flow = {flow:String} AND ranges.hop = {hop:String}
        AND ranges.stage = {stage:String} AND ranges.offset < spans.high AND ranges.offset_to > spans.low
        AND ranges.offset < ranges.offset_to AND {until}
),
edges AS (
    SELECT log, partition, edge, row_number() OVER along AS n, leadInFrame(edge) OVER along AS next
    FROM (SELECT DISTINCT log, partition, arrayJoin([begin, end]) AS edge FROM taken)
    WINDOW along AS (PARTITION BY log, partition ORDER BY edge ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
)
SELECT
    '' AS tenant,
    {flow:String} AS flow,
    message_id,
    toUInt64({seen:UInt64}) AS seen,
    toUInt64({seen:UInt64}) AS ranged,
    toUInt64({dropped:UInt64}) AS hops,
    toUInt64(0) AS kept,
    toUInt64({dropped:UInt64}) AS gone,
    toUInt32({marks:UInt32}) AS marks,
    arrayMap(b -> if(bitTest({seen:UInt64}, b), passed, {never}), range({size:UInt8})) AS observed,
    arrayMap(b -> if(bitTest({seen:UInt64}, b), got, {never}), range({size:UInt8})) AS received,
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
        WHERE tenant = '' AND flow = {flow:String} AND offset >= 0 AND stage IN ('persist', 'replicate')
            AND {slice} AND {placed}
        UNION ALL
        SELECT p.hop, p.partition, p.offset, p.message_id
        FROM {db}.positions AS p
        INNER JOIN (
            SELECT log, partition, min(offset) AS low, max(offset_to) AS high FROM {db}.ranges
            WHERE tenant = '' AND flow = {flow:String} AND hop = {hop:String} AND stage = {stage:String} AND {new_since}
            GROUP BY log, partition
        ) AS fresh ON p.hop = fresh.log AND p.partition = fresh.partition
        WHERE p.tenant = '' AND p.flow = {flow:String} AND {slice} AND p.offset >= fresh.low AND p.offset < fresh.high
    ) AS place
    ASOF INNER JOIN (
        -- Ranges may lie over one another: cut at each other's ends, each piece with the earliest times of all over it.
        SELECT piece.log AS log, piece.partition AS partition, edges.edge AS offset, edges.next AS offset_to,
            piece.since AS since, piece.receipt AS receipt
        FROM (
            SELECT log, partition, arrayJoin(range(low.n, high.n)) AS n,
                min(toUnixTimestamp64Micro(observed_from)) AS since,
                min(toUnixTimestamp64Micro(received_at)) AS receipt
            FROM taken
            INNER JOIN edges AS low ON taken.log = low.log AND taken.partition = low.partition
                AND taken.begin = low.edge
            INNER JOIN edges AS high ON taken.log = high.log AND taken.partition = high.partition
                AND taken.end = high.edge
            GROUP BY log, partition, n
        ) AS piece
        INNER JOIN edges ON piece.log = edges.log AND piece.partition = edges.partition AND piece.n = edges.n
    ) AS moved ON place.hop = moved.log AND place.partition = moved.partition AND place.offset >= moved.offset
    WHERE place.offset < moved.offset_to
    GROUP BY message_id
)
