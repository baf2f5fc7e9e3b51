-- Folding within the engine; inserts of new lanes and blind messages are found without reading all. Cost: metadata
CREATE TABLE IF NOT EXISTS {db}.merged (
    message_id String,
    seen UInt64,
    ranged UInt64,
    hops UInt64,
    kept UInt64,
    gone UInt64,
    marks UInt32,
    observed Array(Int64),
    received Array(Int64),
    origin_carried Int64,
    first_observed Int64,
    first_received Int64,
    produced_first Int64,
    produced_last Int64,
    deliveries Array(UInt64),
    nodes Array(UInt64),
    digests Array(UInt64),
    origin_at Int64,
    was LowCardinality(String),
    origin_was Int64,
    found Bool,
    timer_at Int64
) ENGINE = Memory;

CREATE TABLE IF NOT EXISTS {db}.known (message_id String) ENGINE = Memory;

ALTER TABLE {db}.events ADD INDEX IF NOT EXISTS of_lane lane TYPE set(8) GRANULARITY 1;
ALTER TABLE {db}.states ADD INDEX IF NOT EXISTS of_verdict verdict TYPE set(16) GRANULARITY 1
