-- Who sends more than can be merged waits, from 50 parts of a day on: each insert a little longer, so that more goes into the next one. Cost: metadata
ALTER TABLE {db}.events MODIFY SETTING parts_to_delay_insert = 50, parts_to_throw_insert = 1000, max_delay_to_insert = 4
