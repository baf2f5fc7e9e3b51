-- Measured clocks: what was added to observed times, and by how much they may still be wrong. Cost: metadata
ALTER TABLE {db}.events ADD COLUMN IF NOT EXISTS clock_offset Int64 DEFAULT 0 CODEC(T64, ZSTD(1)) AFTER received_at;
ALTER TABLE {db}.events ADD COLUMN IF NOT EXISTS clock_error Int64 DEFAULT -1 CODEC(T64, ZSTD(1)) AFTER clock_offset;
ALTER TABLE {db}.reports ADD COLUMN IF NOT EXISTS clock_offset Int64 DEFAULT 0 CODEC(T64, ZSTD(1)) AFTER received_at;
ALTER TABLE {db}.reports ADD COLUMN IF NOT EXISTS clock_error Int64 DEFAULT -1 CODEC(T64, ZSTD(1)) AFTER clock_offset;
