-- Lines of the quarantine that were sent through the way in again and taken: they are listed no more. Cost: metadata
CREATE TABLE IF NOT EXISTS {db}.resubmitted (
    received_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    source      LowCardinality(String),
    line        UInt32,
    at          DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1))
) ENGINE = ReplacingMergeTree
PARTITION BY toDate(received_at)
ORDER BY (received_at, source, line)
