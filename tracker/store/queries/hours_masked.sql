-- Which hours of the volume of each flow, and of its checkpoints, say nothing: a tenth was not watched, or came just after such minutes.
SELECT arrayJoin(if(flow = '', {flows:Array(String)}, [flow])) AS flow, arrayJoin([true, false]) AS whole, groupArrayInsertAtIf(toUInt8(0), {hours})(toUInt8(1), toUInt32(i), hop = '' OR NOT whole) AS dark
FROM (
    SELECT toString(flow) AS flow, toString(hop) AS hop, stage, late, {hour} AS i
    FROM (SELECT flow, hop, stage, arrayJoin([0, 600]) AS late, at + late AS at, missing FROM {db}.unwatched FINAL WHERE {masked:Bool} AND tenant = '' AND (flow IN {flows:Array(String)} OR flow = '') AND at >= toDateTime({start:UInt32}, 'UTC') AND at < toDateTime({end:UInt32}, 'UTC'))
    GROUP BY flow, hop, stage, late, i
    HAVING sum(missing) >= 360 AND i >= 0 AND i < {hours}
)
GROUP BY flow, whole
