-- States of a pass are one file instead of two per column, as events are: they are synced before the pass counts as done. Cost: metadata
ALTER TABLE {db}.states MODIFY SETTING min_bytes_for_wide_part = 268435456
