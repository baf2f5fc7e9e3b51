-- Parts of events and states are merged row by row: column by column, the engine's default for tables as wide as these, reads every part as often as there are columns. Cost: metadata
ALTER TABLE {db}.events MODIFY SETTING enable_vertical_merge_algorithm = 0;
ALTER TABLE {db}.states MODIFY SETTING enable_vertical_merge_algorithm = 0
