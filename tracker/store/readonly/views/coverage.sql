-- Over which times which source was vouched for.
SELECT flow, hop, stage, source, evidence, collector, epoch, start_at, end_at, signed_off, broken
FROM {db}.coverage FINAL
WHERE tenant = ''
