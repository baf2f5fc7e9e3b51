-- What a message was counted as; how many were, by pass and by hour, and how long they took. What was settled before is in no count. Cost: metadata
ALTER TABLE {db}.states ADD COLUMN IF NOT EXISTS counted UInt8 DEFAULT multiIf(found OR verdict = 'late', 2, verdict = 'delivered', 1, 0) + if(verdict IN ('delivered', 'late'), 16, 0) + if(verdict = 'blind', 4, 0) + if(verdict = 'explained', 8, 0) + if(has(flags, 'duplicated'), 32, 0) + if(verdict = 'divergent', 64, 0) CODEC(T64, ZSTD(1));
ALTER TABLE {db}.states ADD COLUMN IF NOT EXISTS counted_was UInt8 DEFAULT counted CODEC(T64, ZSTD(1));
ALTER TABLE {db}.merged ADD COLUMN IF NOT EXISTS counted_was UInt8;

CREATE TABLE IF NOT EXISTS {db}.settled (
    tenant           LowCardinality(String),
    flow             LowCardinality(String),
    at               DateTime('UTC') CODEC(Delta, ZSTD(1)),
    pass             UInt64 CODEC(Delta, ZSTD(1)),
    begun            UInt64 CODEC(T64, ZSTD(1)),
    delivered        UInt64 CODEC(T64, ZSTD(1)),
    late             UInt64 CODEC(T64, ZSTD(1)),
    lost             UInt64 CODEC(T64, ZSTD(1)),
    unacknowledged   UInt64 CODEC(T64, ZSTD(1)),
    under_replicated UInt64 CODEC(T64, ZSTD(1)),
    dead_lettered    UInt64 CODEC(T64, ZSTD(1)),
    divergent        UInt64 CODEC(T64, ZSTD(1)),
    blind            UInt64 CODEC(T64, ZSTD(1)),
    explained        UInt64 CODEC(T64, ZSTD(1)),
    complete         UInt64 CODEC(T64, ZSTD(1)),
    duplicated       UInt64 CODEC(T64, ZSTD(1)),
    diverged         UInt64 CODEC(T64, ZSTD(1)),
    turned_good      UInt64 CODEC(T64, ZSTD(1)),
    turned_bad       UInt64 CODEC(T64, ZSTD(1)),
    newest           Int64 CODEC(Delta, ZSTD(1))
) ENGINE = ReplacingMergeTree
PARTITION BY toDate(at)
ORDER BY (tenant, at, flow, pass);

CREATE TABLE IF NOT EXISTS {db}.settled_hours (
    tenant           LowCardinality(String),
    flow             LowCardinality(String),
    at               DateTime('UTC') CODEC(Delta, ZSTD(1)),
    since            DateTime('UTC') CODEC(Delta, ZSTD(1)),
    begun            UInt64 CODEC(T64, ZSTD(1)),
    delivered        UInt64 CODEC(T64, ZSTD(1)),
    late             UInt64 CODEC(T64, ZSTD(1)),
    lost             UInt64 CODEC(T64, ZSTD(1)),
    unacknowledged   UInt64 CODEC(T64, ZSTD(1)),
    under_replicated UInt64 CODEC(T64, ZSTD(1)),
    dead_lettered    UInt64 CODEC(T64, ZSTD(1)),
    divergent        UInt64 CODEC(T64, ZSTD(1)),
    blind            UInt64 CODEC(T64, ZSTD(1)),
    explained        UInt64 CODEC(T64, ZSTD(1)),
    complete         UInt64 CODEC(T64, ZSTD(1)),
    duplicated       UInt64 CODEC(T64, ZSTD(1)),
    diverged         UInt64 CODEC(T64, ZSTD(1)),
    turned_good      UInt64 CODEC(T64, ZSTD(1)),
    turned_bad       UInt64 CODEC(T64, ZSTD(1)),
    newest           Int64 CODEC(Delta, ZSTD(1))
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (tenant, at, flow);

CREATE TABLE IF NOT EXISTS {db}.latencies (
    tenant LowCardinality(String),
    flow   LowCardinality(String),
    hop    LowCardinality(String),
    stage  LowCardinality(String),
    at     DateTime('UTC') CODEC(Delta, ZSTD(1)),
    pass   UInt64 CODEC(Delta, ZSTD(1)),
    sketch AggregateFunction(quantilesDD(0.01, 0.5, 0.95, 0.99), Float64) CODEC(ZSTD(1))
) ENGINE = ReplacingMergeTree
PARTITION BY toDate(at)
ORDER BY (tenant, at, flow, hop, stage, pass);

CREATE TABLE IF NOT EXISTS {db}.latency_hours (
    tenant LowCardinality(String),
    flow   LowCardinality(String),
    hop    LowCardinality(String),
    stage  LowCardinality(String),
    at     DateTime('UTC') CODEC(Delta, ZSTD(1)),
    sketch AggregateFunction(quantilesDD(0.01, 0.5, 0.95, 0.99), Float64) CODEC(ZSTD(1))
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (tenant, at, flow, hop, stage);
