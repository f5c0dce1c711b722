-- When a saga that waits (status 6) is due, and the length of its wait in nanoseconds.
ALTER TABLE {s}buttress_saga ADD COLUMN due_at int8;
ALTER TABLE {s}buttress_saga ADD COLUMN due_length int8;
CREATE INDEX buttress_saga_due
    ON {s}buttress_saga (definition, version, due_at) WHERE status = 6;
-- Finds waits that began later than now, because the clock was set back. As floats, which cannot overflow.
CREATE INDEX buttress_saga_due_since
    ON {s}buttress_saga (definition, version, (due_at::float8 - due_length::float8)) WHERE status = 6;
CREATE INDEX buttress_saga_waiting ON {s}buttress_saga (id) WHERE status = 6;
