-- About how many new events and due messages a flow has, and some of their ids, in order. Of the events one granule in
-- sixteen is read: this cuts the flow into portions, nothing more.
SELECT 16 * countIf(sampled) + countIf(NOT sampled) AS rows, arraySort(groupArraySample(4096, 1)(message_id)) AS some
FROM (
    SELECT message_id, true AS sampled FROM {db}.events
    PREWHERE intDiv(_part_offset, 8192) % 16 = 0
    WHERE tenant = '' AND flow = {flow:String} AND {new_events}
    UNION ALL
    SELECT message_id, false FROM {db}.timers
    WHERE due_at > fromUnixTimestamp64Micro({due_after:Int64}) AND due_at <= fromUnixTimestamp64Micro({now:Int64})
        AND tenant = '' AND flow = {flow:String}
    UNION ALL
    SELECT p.message_id, false FROM {db}.positions AS p
    INNER JOIN (
        SELECT log, partition, min(offset) AS low, max(offset_to) AS high FROM {db}.ranges
        WHERE tenant = '' AND flow = {flow:String} AND {new_since}
        GROUP BY log, partition
    ) AS fresh ON p.hop = fresh.log AND p.partition = fresh.partition
    WHERE p.tenant = '' AND p.flow = {flow:String} AND p.offset >= fresh.low AND p.offset < fresh.high
    UNION ALL
    SELECT message_id, false FROM {db}.states WHERE tenant = '' AND flow = {flow:String} AND ({waiting})
)
