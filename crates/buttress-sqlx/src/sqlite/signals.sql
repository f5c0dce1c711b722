-- How many signals a saga has.
ALTER TABLE buttress_saga ADD COLUMN signals INTEGER NOT NULL DEFAULT 0;
-- The signals of sagas: the first one of each name, until the saga is removed.
CREATE TABLE buttress_saga_signal (
    saga INTEGER NOT NULL,
    name TEXT NOT NULL,
    -- The signals of the saga before this one.
    position INTEGER NOT NULL,
    id BLOB NOT NULL,
    payload BLOB NOT NULL,
    recorded_at INTEGER NOT NULL,
    PRIMARY KEY (saga, name)
) STRICT, WITHOUT ROWID;
