-- Times are nanoseconds since 1970. {s} is the schema, with its dot.

-- Sagas. Rows are found by their number, which grows, so that rows in use are close together.
CREATE TABLE {s}buttress_saga (
    number int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id uuid NOT NULL UNIQUE,
    definition text COLLATE "C" NOT NULL,
    version int8 NOT NULL,
    codec text COLLATE "C" NOT NULL,
    worker uuid NOT NULL,
    epoch int8 NOT NULL,
    -- 1 running, 2 unwinding, 3 stuck, 4 completed, 5 compensated
    status int8 NOT NULL,
    -- The number of entries of the log.
    length int8 NOT NULL,
    cancel bool NOT NULL,
    deadline int8,
    ended_at int8
);
CREATE INDEX buttress_saga_working
    ON {s}buttress_saga (definition, version, worker, number) WHERE status IN (1, 2);
CREATE INDEX buttress_saga_open ON {s}buttress_saga (status, id) WHERE status < 4;
CREATE INDEX buttress_saga_ended ON {s}buttress_saga (ended_at) WHERE ended_at IS NOT NULL;

-- The logs of sagas. The input is at position -1, with kind 0.
CREATE TABLE {s}buttress_saga_entry (
    saga int8 NOT NULL,
    position int8 NOT NULL,
    kind int8 NOT NULL,
    step int8 NOT NULL,
    payload bytea,
    note text COLLATE "C",
    PRIMARY KEY (saga, position)
);

CREATE TABLE {s}buttress_saga_worker (
    worker uuid PRIMARY KEY,
    until int8 NOT NULL
);

-- Claims and results.
CREATE TABLE {s}buttress_idempotency (
    key text COLLATE "C" PRIMARY KEY,
    claim uuid NOT NULL,
    fingerprint uuid,
    -- 1 in flight, 2 done, 3 done and its result not kept
    status int8 NOT NULL,
    -- The end of the lease, or of the result.
    until int8 NOT NULL,
    value bytea
);
CREATE INDEX buttress_idempotency_until ON {s}buttress_idempotency (until);

-- Messages. A sequence is never used twice.
CREATE TABLE {s}buttress_outbox (
    sequence int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id uuid NOT NULL UNIQUE,
    partition int8 NOT NULL,
    key text COLLATE "C" NOT NULL,
    topic text COLLATE "C" NOT NULL,
    payload bytea NOT NULL,
    headers bytea,
    -- 0 pending, 1 delayed, 2 delivered, 3 dead
    status int8 NOT NULL,
    due_at int8 NOT NULL,
    attempts int8 NOT NULL DEFAULT 0,
    starts int8 NOT NULL DEFAULT 0,
    -- The claim of the last start.
    start int8,
    settled_at int8,
    error text COLLATE "C"
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 10000,
        autovacuum_vacuum_insert_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX buttress_outbox_pending ON {s}buttress_outbox (partition, sequence) WHERE status = 0;
CREATE INDEX buttress_outbox_delayed ON {s}buttress_outbox (partition, due_at) WHERE status = 1;
CREATE INDEX buttress_outbox_delivered ON {s}buttress_outbox (settled_at) WHERE status = 2;
CREATE INDEX buttress_outbox_dead ON {s}buttress_outbox (sequence) WHERE status = 3;

-- Keys that a scan skips, each with the message that holds it. A dead letter holds its key without
-- end.
CREATE TABLE {s}buttress_outbox_hold (
    partition int8 NOT NULL,
    key text COLLATE "C" NOT NULL,
    sequence int8 NOT NULL,
    until int8 NOT NULL,
    PRIMARY KEY (partition, key, sequence)
);
CREATE INDEX buttress_outbox_hold_until ON {s}buttress_outbox_hold (partition, until);

-- The owners of partitions.
CREATE TABLE {s}buttress_outbox_lease (
    partition int8 PRIMARY KEY,
    relay uuid,
    epoch int8 NOT NULL DEFAULT 0,
    until int8 NOT NULL DEFAULT 0,
    -- The greatest sequence that the owner has fetched.
    high int8 NOT NULL DEFAULT 0,
    suspect_to int8 NOT NULL DEFAULT 0
);
CREATE TABLE {s}buttress_outbox_relay (
    relay uuid PRIMARY KEY,
    until int8 NOT NULL
);

-- The messages that consumers have received.
CREATE TABLE {s}buttress_inbox (
    consumer text COLLATE "C" NOT NULL,
    message uuid NOT NULL,
    PRIMARY KEY (consumer, message)
);

-- The steps that participants of sagas have done.
CREATE TABLE {s}buttress_inbox_step (
    saga uuid NOT NULL,
    step text COLLATE "C" NOT NULL,
    -- 1 action done, 2 undone, 3 tombstone: the undo came before the action
    state int8 NOT NULL,
    actions int8 NOT NULL,
    undos int8 NOT NULL,
    PRIMARY KEY (saga, step)
);
