-- One message of a flow with a state and an id from `first` to `last`, if there is any.
SELECT message_id
FROM {db}.states
WHERE tenant = '' AND flow = {flow:String} AND message_id >= {first:String} AND message_id <= {last:String}
LIMIT 1
