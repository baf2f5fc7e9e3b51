-- Inserts of events, and their first merges, are one file each instead of two per column: what is synced before an answer are four files, not seventy. Cost: metadata
ALTER TABLE {db}.events MODIFY SETTING min_bytes_for_wide_part = 268435456
