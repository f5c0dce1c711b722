-- Streams of events. A stream is here from its first event on.
CREATE TABLE buttress_event_stream (
    number INTEGER PRIMARY KEY,
    stream_kind TEXT NOT NULL,
    stream_id TEXT NOT NULL,
    -- The version of the last event.
    version INTEGER NOT NULL,
    is_closed INTEGER NOT NULL DEFAULT 0,
    UNIQUE (stream_kind, stream_id)
) STRICT;
-- Events. The file has one writer at a time, so the rowid is the position among all events. Positions have no gaps,
-- and none is used twice.
CREATE TABLE buttress_event (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    stream INTEGER NOT NULL,
    version INTEGER NOT NULL,
    id BLOB NOT NULL,
    kind TEXT NOT NULL,
    schema INTEGER NOT NULL,
    data BLOB NOT NULL,
    headers BLOB,
    recorded_at INTEGER NOT NULL,
    UNIQUE (stream, version)
) STRICT;
CREATE TABLE buttress_event_snapshot (
    stream_kind TEXT NOT NULL,
    stream_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    schema INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (stream_kind, stream_id)
) STRICT;
-- Projections: their owners and their progress.
CREATE TABLE buttress_event_projection (
    name TEXT PRIMARY KEY NOT NULL,
    worker BLOB,
    until INTEGER NOT NULL DEFAULT 0,
    length INTEGER NOT NULL DEFAULT 0,
    epoch INTEGER NOT NULL DEFAULT 0,
    -- The position of the last handled event, and the greatest that there ever was.
    checkpoint INTEGER NOT NULL,
    seen INTEGER NOT NULL,
    -- The position of the last parked event that was replayed, and the checkpoint of the last swap.
    replayed INTEGER NOT NULL DEFAULT 0,
    rebuilt INTEGER NOT NULL DEFAULT 0
) STRICT;
