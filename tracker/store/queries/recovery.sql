-- Findings opened in a span of time, how they ended, and how long finding and bringing back took (µs, p50 and p90).
SELECT
    {keys},
    count() AS findings,
    countIf(status = 'open') AS open,
    countIf(status = 'recovered' AND by = 'replay') AS by_replay,
    countIf(status = 'recovered' AND by != 'replay') AS by_itself,
    countIf(status = 'withdrawn') AS withdrawn,
    countIf(status = 'superseded') AS superseded,
    countIf(status = 'parked') AS parked,
    countIf(status = 'abandoned') AS abandoned,
    countIf({lost}) AS lost,
    countIf(counts) AS counted,
    quantilesExactIf(0.5, 0.9)(opened - known, counts) AS detect,
    quantilesExactIf(0.5, 0.9)(ended - opened, status = 'recovered') AS recover,
    quantilesExactIf(0.5, 0.9)(ended - opened, status = 'recovered' AND by = 'replay') AS replay,
    quantilesExactIf(0.5, 0.9)(ended - opened, status = 'recovered' AND by != 'replay') AS itself,
    -- What is open counts with its age, what was given up as never: else the times look best where least comes back.
    quantilesExactIf(0.5, 0.9)(multiIf(status = 'recovered', ended - opened, status = 'open', greatest({now:Int64} - opened, 0), {never:Int64}),
        counts) AS back
FROM
(
    SELECT
        flow, kind, status, by,
        toUnixTimestamp64Micro(opened_at) AS opened,
        toUnixTimestamp64Micro(known_at) AS known,
        toUnixTimestamp64Micro(resolved_at) AS ended,
        intDiv(opened - {start:Int64}, {step:Int64}) AS slice,
        status NOT IN ('withdrawn', 'superseded') AS counts
    FROM {db}.findings FINAL
    WHERE tenant = '' AND cause = ''
        AND opened_at >= fromUnixTimestamp64Micro({start:Int64}, 'UTC')
        AND opened_at < fromUnixTimestamp64Micro({end:Int64}, 'UTC')
        AND ({flow:String} = '' OR flow = {flow:String}) AND ({kind:String} = '' OR kind = {kind:String})
)
GROUP BY {keys}
ORDER BY {keys}
