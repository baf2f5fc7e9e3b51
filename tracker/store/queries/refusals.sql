-- The spans of which lines were refused: the latest one by one, older ones together by place and slot.
SELECT
    flow, hop, stage, source,
    min(first) AS first_sequence, max(last) AS last_sequence, min(began) AS start, max(ended) AS end
FROM (
    SELECT
        flow, hop, stage, source, first_sequence AS first, last_sequence AS last,
        toUnixTimestamp64Micro(start_at) AS began, toUnixTimestamp64Micro(end_at) AS ended,
        max(last_sequence) OVER () AS newest
    FROM {db}.coverage FINAL
    WHERE tenant = '' AND evidence = {refused:String} {mine}
)
GROUP BY flow, hop, stage, source, if(last + {fine:UInt64} < newest, intDiv(first, {slot:UInt64}), first)
