-- How many settled messages each checkpoint was due to see and saw; minutes in which nobody watched; anomalies. Cost: metadata
ALTER TABLE {db}.latencies ADD COLUMN IF NOT EXISTS due UInt64 CODEC(T64, ZSTD(1));
ALTER TABLE {db}.latencies ADD COLUMN IF NOT EXISTS seen UInt64 CODEC(T64, ZSTD(1));
ALTER TABLE {db}.latency_hours ADD COLUMN IF NOT EXISTS due UInt64 CODEC(T64, ZSTD(1));
ALTER TABLE {db}.latency_hours ADD COLUMN IF NOT EXISTS seen UInt64 CODEC(T64, ZSTD(1));

CREATE TABLE IF NOT EXISTS {db}.unwatched (
    tenant  LowCardinality(String),
    flow    LowCardinality(String),
    hop     LowCardinality(String),
    stage   LowCardinality(String),
    at      DateTime('UTC') CODEC(Delta, ZSTD(1)),
    missing UInt32 CODEC(T64, ZSTD(1))
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (tenant, at, flow, hop, stage);

CREATE TABLE IF NOT EXISTS {db}.anomalies (
    tenant    LowCardinality(String),
    flow      LowCardinality(String),
    hop       LowCardinality(String),
    stage     LowCardinality(String),
    signal    LowCardinality(String),
    direction LowCardinality(String),
    since     DateTime('UTC') CODEC(Delta, ZSTD(1)),
    opened_at DateTime('UTC') CODEC(Delta, ZSTD(1)),
    last_at   DateTime('UTC') CODEC(Delta, ZSTD(1)),
    until     DateTime('UTC') CODEC(Delta, ZSTD(1)),
    ended_by  LowCardinality(String),
    expected  Float64 CODEC(ZSTD(1)),
    came      Float64 CODEC(ZSTD(1)),
    distance  Float64 CODEC(ZSTD(1)),
    baseline  LowCardinality(String),
    looked_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1))
) ENGINE = ReplacingMergeTree(looked_at)
ORDER BY (tenant, flow, hop, stage, signal, direction, since);
