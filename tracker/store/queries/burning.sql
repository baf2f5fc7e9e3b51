-- How many messages of every flow were settled as good and as bad within each of some windows that end now.
SELECT flow, toUnixTimestamp(min(since)) AS since, {goods} AS good, {bads} AS bad, {blinds} AS blind,
    {explaineds} AS explained, {to_goods} AS turned_good, {to_bads} AS turned_bad, {begun} AS begun, max(newest) AS newest
FROM (
    SELECT flow, at, at AS since, true AS fine, {columns}
    FROM {db}.settled FINAL
    WHERE tenant = '' AND {mine} AND at <= toDateTime({now:UInt32}, 'UTC') AND ({edges})
    UNION ALL
    SELECT flow, at, since, false AS fine, {columns}
    FROM {db}.settled_hours FINAL
    WHERE tenant = '' AND {mine} AND at >= toDateTime({oldest:UInt32}, 'UTC') AND at < toDateTime({split:UInt32}, 'UTC')
)
GROUP BY flow
