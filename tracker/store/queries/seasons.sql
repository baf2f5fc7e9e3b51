-- The season, the level and the usual distance from them of hourly series, by STL without what lies far out by Tukey.
WITH
    multiIf(age >= {week:UInt32}, 168, 24) AS cycle,
    arrayMap((x, d) -> multiIf(d != 0, nan, isNaN(x), {empty}, x), arraySlice(raw, first), arraySlice(dark, first)) AS known,
    arrayReduce('medianExact', arrayFilter(x -> NOT isNaN(x), known)) AS middle,
    arrayMap(p -> arrayReduce('medianExact', arrayPushBack(arrayFilter((x, j) -> (j - 1) % 24 = p AND NOT isNaN(x), known, arrayEnumerate(known)), middle)), range(24)) AS days,
    arrayMap(p -> arrayReduce('medianExact', arrayPushBack(arrayFilter((x, j) -> (j - 1) % cycle = p AND NOT isNaN(x), known, arrayEnumerate(known)), days[p % 24 + 1])), range(cycle)) AS phases,
    arrayMap(j -> phases[(j - 1) % cycle + 1], arrayEnumerate(known)) AS usual,
    arrayMap((x, u) -> if(isNaN(x), u, x), known, usual) AS whole,
    seriesOutliersDetectTukey(arrayMap((x, u) -> x - u, whole, usual), 0.25, 0.75, {fence:Float64}) AS far,
    seriesDecomposeSTL(arrayMap((x, u, out) -> if(out = 0, x, u), whole, usual, far), cycle) AS parts,
    arrayMap((x, s) -> x - s, whole, parts[1]) AS levels
SELECT flow, hop, stage, toUInt32(age) AS hours, toUInt32(cycle) AS period, arraySlice(parts[1], -cycle) AS seasonal,
    arrayReduce('medianExact', arraySlice(levels, -168)) AS long, arrayReduce('medianExact', arraySlice(levels, -24)) AS short,
    1.4826 * arrayReduce('medianExact', arrayMap(x -> abs(x), parts[3])) AS spread
FROM (
    SELECT flow, hop, stage, raw, arrayResize(masks.dark, {hours}, 0) AS dark, arrayFirstIndex((x, d) -> d = 0 AND NOT isNaN(x), raw, dark) AS first, {hours} + 1 - first AS age
    FROM (
        SELECT flow, hop, stage, groupArrayInsertAtIf(nan, {hours})(toFloat64(y), toUInt32(i), isFinite(y)) AS raw
        FROM ({values})
        WHERE i >= 0 AND i < {hours}
        GROUP BY flow, hop, stage
    ) AS series
    LEFT JOIN ({masks}) AS masks ON masks.flow = series.flow AND masks.whole = (series.hop = '')
    WHERE first > 0 AND age >= {day:UInt32}
)
