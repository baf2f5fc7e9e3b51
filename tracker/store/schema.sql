-- What all migrations together make. Never applied: for reading, and held against the migrations by a test.

CREATE TABLE {db}.anomalies
(
    `tenant` LowCardinality(String),
    `flow` LowCardinality(String),
    `hop` LowCardinality(String),
    `stage` LowCardinality(String),
    `signal` LowCardinality(String),
    `direction` LowCardinality(String),
    `since` DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
    `opened_at` DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
    `last_at` DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
    `until` DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
    `ended_by` LowCardinality(String),
    `expected` Float64 CODEC(ZSTD(1)),
    `came` Float64 CODEC(ZSTD(1)),
    `distance` Float64 CODEC(ZSTD(1)),
    `baseline` LowCardinality(String),
    `looked_at` DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1))
)
ENGINE = ReplacingMergeTree(looked_at)
ORDER BY (tenant, flow, hop, stage, signal, direction, since);

CREATE TABLE {db}.coverage
(
    `tenant` LowCardinality(String),
    `flow` LowCardinality(String),
    `hop` LowCardinality(String),
    `stage` LowCardinality(String),
    `source` String,
    `evidence` LowCardinality(String),
    `collector` LowCardinality(String),
    `epoch` UInt64,
    `first_sequence` UInt64,
    `last_sequence` UInt64,
    `start_at` DateTime64(6, 'UTC'),
    `end_at` DateTime64(6, 'UTC'),
    `signed_off` Bool,
    `broken` Bool,
    `pass` UInt64
)
ENGINE = ReplacingMergeTree(pass)
ORDER BY (tenant, flow, hop, stage, source, evidence, collector, epoch, first_sequence);

CREATE TABLE {db}.delta
(
    `tenant` LowCardinality(String),
    `flow` LowCardinality(String),
    `message_id` String,
    `seen` UInt64,
    `ranged` UInt64,
    `hops` UInt64,
    `kept` UInt64,
    `gone` UInt64,
    `marks` UInt32,
    `observed` Array(Int64),
    `received` Array(Int64),
    `origin_carried` Int64,
    `first_observed` Int64,
    `first_received` Int64,
    `produced_first` Int64,
    `produced_last` Int64,
    `deliveries` Array(UInt64),
    `nodes` Array(UInt64),
    `digests` Array(UInt64)
)
ENGINE = Memory;

CREATE TABLE {db}.events
(
    `tenant` LowCardinality(String),
    `flow` LowCardinality(String),
    `message_id` String CODEC(ZSTD(1)),
    `hop` LowCardinality(String),
    `stage` Enum8('produce' = 1, 'persist' = 2, 'replicate' = 3, 'deliver' = 4, 'ack' = 5, 'nack' = 6, 'dead_letter' = 7, 'drop' = 8),
    `observed_at` DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    `observed_span` Int64 CODEC(T64, ZSTD(1)),
    `origin_at` DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    `reason` LowCardinality(String),
    `delivery` String CODEC(ZSTD(1)),
    `node` LowCardinality(String),
    `region` LowCardinality(String),
    `digest` UInt64 CODEC(ZSTD(1)),
    `size` UInt64 CODEC(T64, ZSTD(1)),
    `key_hash` UInt64 CODEC(ZSTD(1)),
    `key` String CODEC(ZSTD(1)),
    `partition` LowCardinality(String),
    `offset` Int64 DEFAULT -1 CODEC(Delta(8), ZSTD(1)),
    `consumer_group` LowCardinality(String),
    `attempt` UInt16 CODEC(T64, ZSTD(1)),
    `trace_id` String CODEC(ZSTD(1)),
    `span_id` String CODEC(ZSTD(1)),
    `correlation_id` String CODEC(ZSTD(1)),
    `causation_id` String CODEC(ZSTD(1)),
    `replay_id` LowCardinality(String),
    `attributes` Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    `backfill` Bool,
    `received_at` DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    `clock_offset` Int64 DEFAULT 0 CODEC(T64, ZSTD(1)),
    `clock_error` Int64 DEFAULT -1 CODEC(T64, ZSTD(1)),
    `lane` UInt64 CODEC(Delta(8), ZSTD(1)),
    `sequence` UInt64 CODEC(Delta(8), ZSTD(1)),
    INDEX new_since sequence TYPE minmax GRANULARITY 1,
    INDEX of_lane lane TYPE set(8) GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toDate(received_at)
ORDER BY (tenant, flow, message_id);

CREATE TABLE {db}.findings
(
    `tenant` LowCardinality(String),
    `flow` LowCardinality(String),
    `message_id` String CODEC(ZSTD(1)),
    `hop` LowCardinality(String),
    `stage` LowCardinality(String),
    `kind` LowCardinality(String),
    `pass` UInt64,
    `finding_id` String DEFAULT leftPad(lower(hex(xxh3(concat(flow, '\0', message_id, '\0', hop, '\0', stage, '\0', kind)))), 16, '0') CODEC(ZSTD(1)),
    `incident` LowCardinality(String),
    `status` LowCardinality(String),
    `by` LowCardinality(String),
    `cause` LowCardinality(String),
    `opened_at` DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    `known_at` DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    `resolved_at` DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    `deadline` DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    `origin_at` DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    `held_by` Array(LowCardinality(String)),
    `why` String CODEC(ZSTD(1)),
    INDEX of_pass pass TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(pass)
ORDER BY (tenant, flow, message_id, hop, stage, kind);

CREATE TABLE {db}.heard
(
    `tenant` LowCardinality(String),
    `flow` LowCardinality(String),
    `hop` LowCardinality(String),
    `stage` LowCardinality(String),
    `received_at` SimpleAggregateFunction(max, DateTime64(6, 'UTC')),
    `unannounced_at` SimpleAggregateFunction(max, DateTime64(6, 'UTC'))
)
ENGINE = AggregatingMergeTree
ORDER BY (tenant, flow, hop, stage);

CREATE TABLE {db}.installation
(
    `id` String
)
ENGINE = MergeTree
ORDER BY id;

CREATE TABLE {db}.known
(
    `message_id` String
)
ENGINE = Memory;

CREATE TABLE {db}.latencies
(
    `tenant` LowCardinality(String),
    `flow` LowCardinality(String),
    `hop` LowCardinality(String),
    `stage` LowCardinality(String),
    `at` DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
    `pass` UInt64 CODEC(Delta(8), ZSTD(1)),
    `sketch` AggregateFunction(quantilesDD(0.01, 0.5, 0.95, 0.99), Float64) CODEC(ZSTD(1)),
    `due` UInt64 CODEC(T64, ZSTD(1)),
    `seen` UInt64 CODEC(T64, ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toDate(at)
ORDER BY (tenant, at, flow, hop, stage, pass);

CREATE TABLE {db}.latency_hours
(
    `tenant` LowCardinality(String),
    `flow` LowCardinality(String),
    `hop` LowCardinality(String),
    `stage` LowCardinality(String),
    `at` DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
    `sketch` AggregateFunction(quantilesDD(0.01, 0.5, 0.95, 0.99), Float64) CODEC(ZSTD(1)),
    `due` UInt64 CODEC(T64, ZSTD(1)),
    `seen` UInt64 CODEC(T64, ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (tenant, at, flow, hop, stage);

CREATE TABLE {db}.lines
(
    `tenant` LowCardinality(String),
    `flow` LowCardinality(String),
    `hop` LowCardinality(String),
    `stage` LowCardinality(String),
    `line` UInt64 CODEC(ZSTD(1)),
    `made` Int64 CODEC(Delta(8), ZSTD(1)),
    `message_id` String CODEC(ZSTD(1)),
    `made_error` Int64 CODEC(T64, ZSTD(1)),
    `maker` UInt64 CODEC(ZSTD(1)),
    `since` Int64 CODEC(Delta(8), ZSTD(1)),
    `seen` Int64 CODEC(Delta(8), ZSTD(1)),
    `seen_error` Int64 CODEC(T64, ZSTD(1)),
    `node` UInt64 CODEC(ZSTD(1)),
    `pass` UInt64 CODEC(Delta(8), ZSTD(1)),
    INDEX of_pass pass TYPE minmax GRANULARITY 1,
    INDEX of_seen seen TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(pass)
ORDER BY (tenant, flow, hop, stage, line, made, message_id);

CREATE TABLE {db}.merged
(
    `message_id` String,
    `seen` UInt64,
    `ranged` UInt64,
    `hops` UInt64,
    `kept` UInt64,
    `gone` UInt64,
    `marks` UInt32,
    `observed` Array(Int64),
    `received` Array(Int64),
    `origin_carried` Int64,
    `first_observed` Int64,
    `first_received` Int64,
    `produced_first` Int64,
    `produced_last` Int64,
    `deliveries` Array(UInt64),
    `nodes` Array(UInt64),
    `digests` Array(UInt64),
    `origin_at` Int64,
    `was` LowCardinality(String),
    `origin_was` Int64,
    `found` Bool,
    `timer_at` Int64,
    `counted_was` UInt8
)
ENGINE = Memory;

CREATE TABLE {db}.migrations
(
    `name` String,
    `applied_at` DateTime DEFAULT now()
)
ENGINE = MergeTree
ORDER BY name;

CREATE TABLE {db}.positions
(
    `tenant` LowCardinality(String),
    `flow` LowCardinality(String),
    `hop` LowCardinality(String),
    `partition` LowCardinality(String),
    `offset` Int64 CODEC(Delta(8), ZSTD(1)),
    `message_id` String CODEC(ZSTD(1)),
    `received_at` DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toDate(received_at)
ORDER BY (tenant, flow, hop, partition, offset);

CREATE TABLE {db}.quarantine
(
    `tenant` LowCardinality(String),
    `source` LowCardinality(String),
    `line` UInt32,
    `field` LowCardinality(String),
    `reason` String CODEC(ZSTD(1)),
    `raw` String CODEC(ZSTD(1)),
    `flow` String CODEC(ZSTD(1)),
    `received_at` DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toDate(received_at)
ORDER BY received_at;

CREATE TABLE {db}.ranges
(
    `tenant` LowCardinality(String),
    `flow` LowCardinality(String),
    `hop` LowCardinality(String),
    `stage` LowCardinality(String),
    `log` LowCardinality(String),
    `partition` LowCardinality(String),
    `offset` Int64 CODEC(Delta(8), ZSTD(1)),
    `offset_to` Int64 CODEC(Delta(8), ZSTD(1)),
    `reason` LowCardinality(String),
    `consumer_group` LowCardinality(String),
    `node` LowCardinality(String),
    `observed_from` DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    `observed_at` DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    `received_at` DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    `lane` UInt64 CODEC(Delta(8), ZSTD(1)),
    `sequence` UInt64 CODEC(Delta(8), ZSTD(1)),
    INDEX new_since sequence TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toDate(received_at)
ORDER BY (tenant, flow, log, partition, hop, stage, offset);

CREATE TABLE {db}.reordered
(
    `tenant` LowCardinality(String),
    `flow` LowCardinality(String),
    `message_id` String CODEC(ZSTD(1)),
    `hop` LowCardinality(String),
    `stage` LowCardinality(String),
    `passed_by` String CODEC(ZSTD(1)),
    `pass` UInt64 CODEC(Delta(8), ZSTD(1))
)
ENGINE = ReplacingMergeTree(pass)
ORDER BY (tenant, flow, message_id, hop, stage);

CREATE TABLE {db}.reports
(
    `tenant` LowCardinality(String),
    `collector` LowCardinality(String),
    `epoch` UInt64 CODEC(Delta(8), ZSTD(1)),
    `sequence` UInt64 CODEC(Delta(8), ZSTD(1)),
    `events` UInt64,
    `lag_ms` UInt64,
    `backlog` UInt64,
    `dropped` UInt64,
    `sources` Array(Tuple(
        flow String,
        hop String,
        stage String,
        source String,
        evidence String)) CODEC(ZSTD(1)),
    `signed_off` Array(Tuple(
        flow String,
        hop String,
        stage String,
        source String,
        evidence String)) CODEC(ZSTD(1)),
    `received_at` DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    `clock_offset` Int64 DEFAULT 0 CODEC(T64, ZSTD(1)),
    `clock_error` Int64 DEFAULT -1 CODEC(T64, ZSTD(1)),
    `lane` UInt64 CODEC(Delta(8), ZSTD(1)),
    `lane_sequence` UInt64 CODEC(Delta(8), ZSTD(1)),
    INDEX new_since lane_sequence TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toDate(received_at)
ORDER BY (tenant, collector, epoch, sequence);

CREATE TABLE {db}.resubmitted
(
    `received_at` DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    `source` LowCardinality(String),
    `line` UInt32,
    `at` DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toDate(received_at)
ORDER BY (received_at, source, line);

CREATE TABLE {db}.settled
(
    `tenant` LowCardinality(String),
    `flow` LowCardinality(String),
    `at` DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
    `pass` UInt64 CODEC(Delta(8), ZSTD(1)),
    `begun` UInt64 CODEC(T64, ZSTD(1)),
    `delivered` UInt64 CODEC(T64, ZSTD(1)),
    `late` UInt64 CODEC(T64, ZSTD(1)),
    `lost` UInt64 CODEC(T64, ZSTD(1)),
    `unacknowledged` UInt64 CODEC(T64, ZSTD(1)),
    `under_replicated` UInt64 CODEC(T64, ZSTD(1)),
    `dead_lettered` UInt64 CODEC(T64, ZSTD(1)),
    `divergent` UInt64 CODEC(T64, ZSTD(1)),
    `blind` UInt64 CODEC(T64, ZSTD(1)),
    `explained` UInt64 CODEC(T64, ZSTD(1)),
    `complete` UInt64 CODEC(T64, ZSTD(1)),
    `duplicated` UInt64 CODEC(T64, ZSTD(1)),
    `diverged` UInt64 CODEC(T64, ZSTD(1)),
    `turned_good` UInt64 CODEC(T64, ZSTD(1)),
    `turned_bad` UInt64 CODEC(T64, ZSTD(1)),
    `newest` Int64 CODEC(Delta(8), ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toDate(at)
ORDER BY (tenant, at, flow, pass);

CREATE TABLE {db}.settled_hours
(
    `tenant` LowCardinality(String),
    `flow` LowCardinality(String),
    `at` DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
    `since` DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
    `begun` UInt64 CODEC(T64, ZSTD(1)),
    `delivered` UInt64 CODEC(T64, ZSTD(1)),
    `late` UInt64 CODEC(T64, ZSTD(1)),
    `lost` UInt64 CODEC(T64, ZSTD(1)),
    `unacknowledged` UInt64 CODEC(T64, ZSTD(1)),
    `under_replicated` UInt64 CODEC(T64, ZSTD(1)),
    `dead_lettered` UInt64 CODEC(T64, ZSTD(1)),
    `divergent` UInt64 CODEC(T64, ZSTD(1)),
    `blind` UInt64 CODEC(T64, ZSTD(1)),
    `explained` UInt64 CODEC(T64, ZSTD(1)),
    `complete` UInt64 CODEC(T64, ZSTD(1)),
    `duplicated` UInt64 CODEC(T64, ZSTD(1)),
    `diverged` UInt64 CODEC(T64, ZSTD(1)),
    `turned_good` UInt64 CODEC(T64, ZSTD(1)),
    `turned_bad` UInt64 CODEC(T64, ZSTD(1)),
    `newest` Int64 CODEC(Delta(8), ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (tenant, at, flow);

CREATE TABLE {db}.states
(
    `tenant` LowCardinality(String),
    `flow` LowCardinality(String),
    `message_id` String CODEC(ZSTD(1)),
    `pass` UInt64 CODEC(Delta(8), ZSTD(1)),
    `seen` UInt64 CODEC(T64, ZSTD(1)),
    `ranged` UInt64 CODEC(T64, ZSTD(1)),
    `hops` UInt64 CODEC(T64, ZSTD(1)),
    `kept` UInt64 CODEC(T64, ZSTD(1)),
    `gone` UInt64 CODEC(T64, ZSTD(1)),
    `marks` UInt32 CODEC(T64, ZSTD(1)),
    `observed` Array(Int64) CODEC(Delta(8), ZSTD(1)),
    `received` Array(Int64) CODEC(Delta(8), ZSTD(1)),
    `origin_carried` Int64 CODEC(Delta(8), ZSTD(1)),
    `first_observed` Int64 CODEC(Delta(8), ZSTD(1)),
    `first_received` Int64 CODEC(Delta(8), ZSTD(1)),
    `produced_first` Int64 CODEC(Delta(8), ZSTD(1)),
    `produced_last` Int64 CODEC(Delta(8), ZSTD(1)),
    `deliveries` Array(UInt64) CODEC(ZSTD(1)),
    `nodes` Array(UInt64) CODEC(ZSTD(1)),
    `digests` Array(UInt64) CODEC(ZSTD(1)),
    `origin_at` DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    `verdict` LowCardinality(String),
    `was` LowCardinality(String),
    `origin_was` DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    `flags` Array(LowCardinality(String)),
    `found` Bool,
    `look_again` Int64 CODEC(Delta(8), ZSTD(1)),
    `timer_at` Int64 CODEC(Delta(8), ZSTD(1)),
    `counted` UInt8 DEFAULT ((((multiIf(found OR (verdict = 'late'), 2, verdict = 'delivered', 1, 0) + if((verdict IN ('delivered', 'late')), 16, 0)) + if(verdict = 'blind', 4, 0)) + if(verdict = 'explained', 8, 0)) + if(has(flags, 'duplicated'), 32, 0)) + if(verdict = 'divergent', 64, 0) CODEC(T64, ZSTD(1)),
    `counted_was` UInt8 DEFAULT counted CODEC(T64, ZSTD(1)),
    INDEX of_pass pass TYPE minmax GRANULARITY 1,
    INDEX of_origin origin_at TYPE minmax GRANULARITY 1,
    INDEX of_verdict verdict TYPE set(16) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(pass)
ORDER BY (tenant, flow, message_id);

CREATE TABLE {db}.timers
(
    `due_at` DateTime64(6, 'UTC') CODEC(Delta(8), ZSTD(1)),
    `tenant` LowCardinality(String),
    `flow` LowCardinality(String),
    `message_id` String CODEC(ZSTD(1)),
    `pass` UInt64 CODEC(Delta(8), ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toDate(due_at)
ORDER BY due_at;

CREATE TABLE {db}.unwatched
(
    `tenant` LowCardinality(String),
    `flow` LowCardinality(String),
    `hop` LowCardinality(String),
    `stage` LowCardinality(String),
    `at` DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
    `missing` UInt32 CODEC(T64, ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (tenant, at, flow, hop, stage);
