-- Times are nanoseconds since 1970. Identifiers are 16 bytes, the most significant first.

-- Sagas. Rows are found by their number, which grows, so that rows in use are close together.
CREATE TABLE buttress_saga (
    number INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    definition TEXT NOT NULL,
    version INTEGER NOT NULL,
    codec TEXT NOT NULL,
    worker BLOB NOT NULL,
    epoch INTEGER NOT NULL,
    -- 1 running, 2 unwinding, 3 stuck, 4 completed, 5 compensated
    status INTEGER NOT NULL,
    -- The number of entries of the log.
    length INTEGER NOT NULL,
    cancel INTEGER NOT NULL,
    deadline INTEGER,
    ended_at INTEGER
) STRICT;
CREATE INDEX buttress_saga_working
    ON buttress_saga (definition, version, worker, number) WHERE status IN (1, 2);
CREATE INDEX buttress_saga_open ON buttress_saga (status, id) WHERE status < 4;
CREATE INDEX buttress_saga_ended ON buttress_saga (ended_at) WHERE ended_at IS NOT NULL;

-- The logs of sagas. The input is at position -1, with kind 0.
CREATE TABLE buttress_saga_entry (
    saga INTEGER NOT NULL,
    position INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    step INTEGER NOT NULL,
    payload BLOB,
    note TEXT,
    PRIMARY KEY (saga, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE buttress_saga_worker (
    worker BLOB PRIMARY KEY NOT NULL,
    until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Claims and results.
CREATE TABLE buttress_idempotency (
    key TEXT PRIMARY KEY NOT NULL,
    claim BLOB NOT NULL,
    fingerprint BLOB,
    -- 1 in flight, 2 done, 3 done and its result not kept
    status INTEGER NOT NULL,
    -- The end of the lease, or of the result.
    until INTEGER NOT NULL,
    value BLOB
) STRICT;
CREATE INDEX buttress_idempotency_until ON buttress_idempotency (until);

-- Messages. A sequence is never used twice.
CREATE TABLE buttress_outbox (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE,
    partition INTEGER NOT NULL,
    key TEXT NOT NULL,
    topic TEXT NOT NULL,
    payload BLOB NOT NULL,
    headers BLOB,
    -- 0 pending, 1 delayed, 2 delivered, 3 dead
    status INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    starts INTEGER NOT NULL DEFAULT 0,
    -- The claim of the last start.
    start INTEGER,
    settled_at INTEGER,
    error TEXT
) STRICT;
CREATE INDEX buttress_outbox_pending ON buttress_outbox (partition, sequence) WHERE status = 0;
CREATE INDEX buttress_outbox_delayed ON buttress_outbox (partition, due_at) WHERE status = 1;
CREATE INDEX buttress_outbox_delivered ON buttress_outbox (settled_at) WHERE status = 2;
CREATE INDEX buttress_outbox_dead ON buttress_outbox (sequence) WHERE status = 3;

-- Keys that a scan skips, each with the message that holds it. A dead letter holds its key without
-- end.
CREATE TABLE buttress_outbox_hold (
    partition INTEGER NOT NULL,
    key TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    until INTEGER NOT NULL,
    PRIMARY KEY (partition, key, sequence)
) STRICT, WITHOUT ROWID;
CREATE INDEX buttress_outbox_hold_until ON buttress_outbox_hold (partition, until);

-- The owners of partitions.
CREATE TABLE buttress_outbox_lease (
    partition INTEGER PRIMARY KEY,
    relay BLOB,
    epoch INTEGER NOT NULL DEFAULT 0,
    until INTEGER NOT NULL DEFAULT 0,
    -- The greatest sequence that the owner has fetched.
    high INTEGER NOT NULL DEFAULT 0,
    suspect_to INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE buttress_outbox_relay (
    relay BLOB PRIMARY KEY NOT NULL,
    until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The messages that consumers have received.
CREATE TABLE buttress_inbox (
    consumer TEXT NOT NULL,
    message BLOB NOT NULL,
    PRIMARY KEY (consumer, message)
) STRICT, WITHOUT ROWID;

-- The steps that participants of sagas have done.
CREATE TABLE buttress_inbox_step (
    saga BLOB NOT NULL,
    step TEXT NOT NULL,
    -- 1 action done, 2 undone, 3 tombstone: the undo came before the action
    state INTEGER NOT NULL,
    actions INTEGER NOT NULL,
    undos INTEGER NOT NULL,
    PRIMARY KEY (saga, step)
) STRICT, WITHOUT ROWID;
