-- Order: where messages stand in their lines, and who was passed by whom. Cost: metadata
CREATE TABLE IF NOT EXISTS {db}.lines (
    tenant     LowCardinality(String),
    flow       LowCardinality(String),
    hop        LowCardinality(String),
    stage      LowCardinality(String),
    line       UInt64 CODEC(ZSTD(1)),
    made       Int64 CODEC(Delta, ZSTD(1)),
    message_id String CODEC(ZSTD(1)),
    made_error Int64 CODEC(T64, ZSTD(1)),
    maker      UInt64 CODEC(ZSTD(1)),
    since      Int64 CODEC(Delta, ZSTD(1)),
    seen       Int64 CODEC(Delta, ZSTD(1)),
    seen_error Int64 CODEC(T64, ZSTD(1)),
    node       UInt64 CODEC(ZSTD(1)),
    pass       UInt64 CODEC(Delta, ZSTD(1)),
    INDEX of_pass pass TYPE minmax GRANULARITY 1,
    INDEX of_seen seen TYPE minmax GRANULARITY 1
) ENGINE = ReplacingMergeTree(pass)
ORDER BY (tenant, flow, hop, stage, line, made, message_id);

CREATE TABLE IF NOT EXISTS {db}.reordered (
    tenant     LowCardinality(String),
    flow       LowCardinality(String),
    message_id String CODEC(ZSTD(1)),
    hop        LowCardinality(String),
    stage      LowCardinality(String),
    passed_by  String CODEC(ZSTD(1)),
    pass       UInt64 CODEC(Delta, ZSTD(1))
) ENGINE = ReplacingMergeTree(pass)
ORDER BY (tenant, flow, message_id, hop, stage);
