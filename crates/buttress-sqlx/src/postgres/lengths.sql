-- The lengths of leases, results, holds and delays in nanoseconds. None of them ends later than its
-- length from now, also after the clock was set back. Rows of older releases have no known length.
ALTER TABLE {s}buttress_saga_worker ADD COLUMN length int8 NOT NULL DEFAULT 9223372036854775807;
ALTER TABLE {s}buttress_idempotency ADD COLUMN length int8 NOT NULL DEFAULT 9223372036854775807;
ALTER TABLE {s}buttress_outbox ADD COLUMN length int8 NOT NULL DEFAULT 9223372036854775807;
ALTER TABLE {s}buttress_outbox_hold ADD COLUMN length int8 NOT NULL DEFAULT 9223372036854775807;
ALTER TABLE {s}buttress_outbox_lease ADD COLUMN length int8 NOT NULL DEFAULT 9223372036854775807;
ALTER TABLE {s}buttress_outbox_relay ADD COLUMN length int8 NOT NULL DEFAULT 9223372036854775807;

-- Finds ends that were granted from a later time than now, because the clock was set back. As
-- floats, which cannot overflow.
CREATE INDEX buttress_outbox_delayed_since
    ON {s}buttress_outbox (partition, (due_at::float8 - length::float8)) WHERE status = 1;
CREATE INDEX buttress_outbox_hold_since
    ON {s}buttress_outbox_hold (partition, (until::float8 - length::float8));

CREATE INDEX buttress_saga_old
    ON {s}buttress_saga (definition, ended_at) WHERE ended_at IS NOT NULL;
