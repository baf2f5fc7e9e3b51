-- Messages of one flow that were seen at hops which it names only now, and have no state of a pass before: nowhere else.
WITH strayed AS (
    SELECT message_id
    FROM {db}.events
    WHERE tenant = '' AND flow = {flow:String} AND {slice} AND hop IN {added:Array(String)} AND {until}
)
SELECT message_id
FROM strayed
WHERE message_id NOT IN (
    SELECT message_id
    FROM {db}.states
    WHERE tenant = '' AND flow = {flow:String} AND {slice} AND pass < {pass:UInt64}
        AND message_id IN (SELECT message_id FROM strayed)
)
