-- The level of hourly series that are too short for a season, and the usual distance from it.
SELECT flow, hop, stage, toUInt32({hours} - min(i)) AS hours, toUInt32(1) AS period, [toFloat32(0)] AS seasonal,
    medianExact(toFloat64(y)) AS long, long AS short,
    1.4826 * arrayReduce('medianExact', arrayMap(x -> abs(x - long), groupArray(toFloat64(y)))) AS spread
FROM ({values}) AS series
LEFT JOIN ({masks}) AS masks ON masks.flow = series.flow AND masks.whole = (series.hop = '')
WHERE isFinite(y) AND i >= 0 AND i < {hours} AND dark[i + 1] = 0
GROUP BY flow, hop, stage
HAVING hours < {day:UInt32} AND hours >= {least:UInt32}
