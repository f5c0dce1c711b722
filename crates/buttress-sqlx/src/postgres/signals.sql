-- How many signals a saga has. A writer of the log checks the number in the row that a signal locks.
ALTER TABLE {s}buttress_saga ADD COLUMN signals int8 NOT NULL DEFAULT 0;
-- The signals of sagas: the first one of each name, until the saga is removed.
CREATE TABLE {s}buttress_saga_signal (
    saga int8 NOT NULL,
    name text COLLATE "C" NOT NULL,
    -- The signals of the saga before this one.
    position int8 NOT NULL,
    id uuid NOT NULL,
    payload bytea NOT NULL,
    recorded_at int8 NOT NULL,
    PRIMARY KEY (saga, name)
);
