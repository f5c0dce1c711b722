-- Messages that consumers have stopped handling. A sequence is never used twice. Key and topic are
-- bytes of UTF-8, because a broker may deliver any text.
CREATE TABLE buttress_dead_letter (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE,
    consumer_group TEXT NOT NULL,
    source TEXT NOT NULL,
    key BLOB NOT NULL,
    topic BLOB NOT NULL,
    payload BLOB NOT NULL,
    headers BLOB,
    -- exhausted, undecodable, unknown, rejected, poison, parked, delayed
    reason TEXT NOT NULL,
    error TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    replays INTEGER NOT NULL,
    died_at INTEGER NOT NULL,
    due_at INTEGER,
    holds_key INTEGER NOT NULL,
    -- The last claim for a replay, the end of its lease, and the length of the lease. The end is 0
    -- once the letter was written again.
    claim BLOB,
    until INTEGER NOT NULL DEFAULT 0,
    length INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX buttress_dead_letter_group ON buttress_dead_letter (consumer_group, sequence);
CREATE INDEX buttress_dead_letter_due
    ON buttress_dead_letter (consumer_group, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX buttress_dead_letter_key
    ON buttress_dead_letter (key, consumer_group) WHERE holds_key = 1;
CREATE INDEX buttress_dead_letter_claimed ON buttress_dead_letter (until) WHERE until > 0;
