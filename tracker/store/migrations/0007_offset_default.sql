-- An event without an offset may be inserted without the column: it has none then, not the first. Cost: metadata
ALTER TABLE {db}.events MODIFY COLUMN `offset` Int64 DEFAULT -1 CODEC(Delta(8), ZSTD(1))
