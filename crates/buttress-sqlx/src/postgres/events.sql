-- Streams of events. A stream is here from its first event on.
CREATE TABLE {s}buttress_event_stream (
    number int8 GENERATED ALWAYS AS IDENTITY UNIQUE,
    stream_kind text COLLATE "C" NOT NULL,
    stream_id text COLLATE "C" NOT NULL,
    -- The version of the last event.
    version int8 NOT NULL,
    is_closed bool NOT NULL DEFAULT false,
    PRIMARY KEY (stream_kind, stream_id)
) WITH (fillfactor = 70);
-- Events. The transaction that writes one draws its number `xid` first, and then the sequence, which is the order of
-- the versions in each stream.
CREATE TABLE {s}buttress_event (
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    sequence int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream int8 NOT NULL,
    version int8 NOT NULL,
    id uuid NOT NULL,
    kind text COLLATE "C" NOT NULL,
    schema int8 NOT NULL,
    data bytea NOT NULL,
    headers bytea,
    recorded_at int8 NOT NULL,
    UNIQUE (stream, version)
);
CREATE INDEX buttress_event_xid ON {s}buttress_event (xid);
-- The order of all events. Positions have no gaps.
CREATE TABLE {s}buttress_event_order (
    position int8 PRIMARY KEY,
    sequence int8 NOT NULL UNIQUE
);
-- The last position. Every event whose transaction the snapshot sees has a position. A reader that gives positions
-- locks the row.
CREATE TABLE {s}buttress_event_counter (
    id int8 PRIMARY KEY CHECK (id = 1),
    last int8 NOT NULL,
    snapshot pg_snapshot NOT NULL,
    -- A backlog that gets its positions in several passes: the snapshot of its events, and the last sequence with a
    -- position among them.
    scan pg_snapshot,
    scanned int8,
    -- The server on which the events of a dump were ordered.
    mended_on int8
);
INSERT INTO {s}buttress_event_counter (id, last, snapshot) VALUES (1, 0, '1:1:');
CREATE TABLE {s}buttress_event_snapshot (
    stream_kind text COLLATE "C" NOT NULL,
    stream_id text COLLATE "C" NOT NULL,
    version int8 NOT NULL,
    schema int8 NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (stream_kind, stream_id)
);
-- Projections: their owners and their progress.
CREATE TABLE {s}buttress_event_projection (
    name text COLLATE "C" PRIMARY KEY,
    worker uuid,
    until int8 NOT NULL DEFAULT 0,
    length int8 NOT NULL DEFAULT 0,
    epoch int8 NOT NULL DEFAULT 0,
    -- The position of the last handled event, and the greatest that there ever was.
    checkpoint int8 NOT NULL,
    seen int8 NOT NULL,
    -- The position of the last parked event that was replayed, and the checkpoint of the last swap.
    replayed int8 NOT NULL DEFAULT 0,
    rebuilt int8 NOT NULL DEFAULT 0
);
