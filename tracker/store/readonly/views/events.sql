-- One row per observation as it was received; one that was sent twice may stand here twice.
SELECT
    flow, message_id, hop, stage, observed_at,
    observed_at - toIntervalMicrosecond(observed_span) AS observed_from,
    nullIf(origin_at, toDateTime64(0, 6, 'UTC')) AS origin_at,
    reason, delivery, node, region,
    if(digest = 0, '', leftPad(lower(hex(digest)), 16, '0')) AS digest,
    size, partition, nullIf(offset, -1) AS offset, consumer_group, attempt,
    trace_id, span_id, correlation_id, causation_id, replay_id, attributes, backfill, received_at
FROM {db}.events
WHERE tenant = ''
