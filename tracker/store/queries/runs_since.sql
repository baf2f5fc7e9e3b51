-- The stretches that collectors vouch for since a moment, and what each place had last where there is none.
SELECT flow, hop, stage, source, evidence, collector, epoch, first_sequence, last_sequence, start, end, signed_off, broken
FROM (
    SELECT flow, hop, stage, source, evidence, collector, epoch, first_sequence, last_sequence,
        toUnixTimestamp64Micro(start_at) AS start, toUnixTimestamp64Micro(end_at) AS end, signed_off, broken,
        max(end) OVER (PARTITION BY flow, hop, stage) AS newest
    FROM {db}.coverage FINAL WHERE tenant = '' AND evidence != {refused:String} AND collector != ''
)
WHERE end >= {start:Int64} - {ttl:Int64} OR end = newest
