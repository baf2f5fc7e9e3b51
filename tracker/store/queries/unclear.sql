-- How many states of each of these flows may turn out differently, by what coverage has grown; a state of an older pass
-- counts, too, until it is merged away.
SELECT flow, count() AS rows
FROM {db}.states
WHERE tenant = '' AND {mine} AND ({unclear}) AND {due_since}
GROUP BY flow
