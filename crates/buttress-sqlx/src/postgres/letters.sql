-- Messages that consumers have stopped handling. A sequence is never used twice. Key and topic are
-- bytes of UTF-8, because a broker may deliver any text.
CREATE TABLE {s}buttress_dead_letter (
    sequence int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id uuid NOT NULL UNIQUE,
    consumer_group text COLLATE "C" NOT NULL,
    source text COLLATE "C" NOT NULL,
    key bytea NOT NULL,
    topic bytea NOT NULL,
    payload bytea NOT NULL,
    headers bytea,
    -- exhausted, undecodable, unknown, rejected, poison, parked, delayed
    reason text COLLATE "C" NOT NULL,
    error text COLLATE "C" NOT NULL,
    attempts int8 NOT NULL,
    replays int8 NOT NULL,
    died_at int8 NOT NULL,
    due_at int8,
    holds_key bool NOT NULL,
    -- The last claim for a replay, the end of its lease, and the length of the lease. The end is 0
    -- once the letter was written again.
    claim uuid,
    until int8 NOT NULL DEFAULT 0,
    length int8 NOT NULL DEFAULT 0
);
CREATE INDEX buttress_dead_letter_group ON {s}buttress_dead_letter (consumer_group, sequence);
CREATE INDEX buttress_dead_letter_due
    ON {s}buttress_dead_letter (consumer_group, due_at) WHERE due_at IS NOT NULL;
-- A hash, because a key may be longer than an ordered index can hold.
CREATE INDEX buttress_dead_letter_key ON {s}buttress_dead_letter USING hash (key) WHERE holds_key;
CREATE INDEX buttress_dead_letter_claimed ON {s}buttress_dead_letter (until) WHERE until > 0;
