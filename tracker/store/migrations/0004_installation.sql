-- Which installation the ledger belongs to: the control database has the same word. Cost: metadata
CREATE TABLE IF NOT EXISTS {db}.installation (
    id String
) ENGINE = MergeTree
ORDER BY id;
