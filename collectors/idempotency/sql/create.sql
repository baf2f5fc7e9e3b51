-- What is being done and what was done: one row per consumer, flow and message id. Times are of the server's clock.
CREATE TABLE IF NOT EXISTS message_once (
    consumer   text        NOT NULL,
    flow       text        NOT NULL,
    message_id text        NOT NULL,
    token      bigint      NOT NULL,  -- the claim that counts: µs since 1970, growing from claim to claim
    done       boolean     NOT NULL,
    doubt      boolean     NOT NULL,  -- somebody had it before and never said how it ended
    until      timestamptz NOT NULL,  -- when the lease of the claim runs out
    expires    timestamptz NOT NULL,  -- when the row may be pruned
    PRIMARY KEY (consumer, flow, message_id)
) WITH (fillfactor = 80);  -- so that `done` finds room on the same page and touches no index
CREATE INDEX IF NOT EXISTS message_once_expires ON message_once (expires);
