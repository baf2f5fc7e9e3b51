-- Folds the events that are new since the last pass into one row per message.
INSERT INTO {db}.{delta}
SELECT
    '' AS tenant,
    {of} AS flow,
    message_id,
    groupBitOr(if(bit < 64, bitShiftLeft(toUInt64(1), bit), 0)) AS seen,
    toUInt64(0) AS ranged,
    groupBitOr(if(place < 64, bitShiftLeft(toUInt64(1), place), 0)) AS hops,
    groupBitOr(if(place < 64 AND keeps, bitShiftLeft(toUInt64(1), place), 0)) AS kept,
    groupBitOr(if(place < 64 AND stage IN ('ack', 'drop'), bitShiftLeft(toUInt64(1), place), 0)) AS gone,
    groupBitOr(mark) AS marks,
    {observed} AS observed,
    {received} AS received,
    min(if(origin > 0, origin, {never})) AS origin_carried,
    min(at) AS first_observed,
    min(got) AS first_received,
    min(if(root, made, {never})) AS produced_first,
    maxIf(made, root) AS produced_last,
    {deliveries} AS deliveries,
    {nodes} AS nodes,
    {digests} AS digests
FROM (
    SELECT
        {key}, replay_id, digest, node, stage,
        {traits}
        {keeps} AS keeps,
        {bit} AS bit,
        {place} AS place,
        toUnixTimestamp64Micro(observed_at) AS at,
        toUnixTimestamp64Micro(received_at) AS receipt,
        if(backfill, at, receipt) AS got,
        toUnixTimestamp64Micro(origin_at) AS origin,
        if(origin > 0, origin, at) AS made,
        stage = 'produce' AND replay_id = '' AS root,
        {limited} AS limited,
        multiIf(
            NOT limited, toUInt64(0),
            delivery != '', cityHash64(delivery),
            partition = '' AND offset < 0 AND consumer_group = '' AND attempt = 0, cityHash64('node', node),
            cityHash64(partition, offset, consumer_group, attempt)
        ) AS delivery_hash,
        toUInt32(if(stage = 'drop', {dropped}, 0)
            + if(stage = 'dead_letter' AND reason != {retry}, {dead}, 0)
            + if(observed_span > 0, {interval}, 0)
            + if(backfill, {backfilled}, 0)
            + if(replay_id != '', {replayed}, 0)) AS mark
    FROM {db}.events
    WHERE tenant = '' AND {mine} AND {slice} AND ({known_hops}) AND {new_since}
)
GROUP BY {key}
