-- Messages by verdict in windows of ten seconds of origin time.
SELECT flow, toStartOfInterval(origin_at, toIntervalSecond(10)) AS start, verdict, count() AS messages
FROM {db}.states FINAL
WHERE tenant = ''
GROUP BY flow, start, verdict
