-- Which of the messages that are folded now have a state already.
INSERT INTO {db}.{known}
SELECT DISTINCT message_id
FROM {db}.states
WHERE tenant = '' AND flow = {flow:String} AND message_id >= {first:String} AND message_id <= {last:String}
    AND message_id IN (SELECT message_id FROM {db}.{delta})
