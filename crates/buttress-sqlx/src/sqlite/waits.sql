-- When a saga that waits (status 6) is due, and the length of its wait in nanoseconds.
ALTER TABLE buttress_saga ADD COLUMN due_at INTEGER;
ALTER TABLE buttress_saga ADD COLUMN due_length INTEGER;
CREATE INDEX buttress_saga_due ON buttress_saga (definition, version, due_at) WHERE status = 6;
-- Finds waits that began later than now, because the clock was set back.
CREATE INDEX buttress_saga_due_since
    ON buttress_saga (definition, version, due_at - due_length) WHERE status = 6;
CREATE INDEX buttress_saga_waiting ON buttress_saga (id) WHERE status = 6;
