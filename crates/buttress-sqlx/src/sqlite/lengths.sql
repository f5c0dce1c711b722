-- The lengths of leases, results, holds and delays in nanoseconds. None of them ends later than its
-- length from now, also after the clock was set back. Rows of older releases have no known length.
ALTER TABLE buttress_saga_worker ADD COLUMN length INTEGER NOT NULL DEFAULT 9223372036854775807;
ALTER TABLE buttress_idempotency ADD COLUMN length INTEGER NOT NULL DEFAULT 9223372036854775807;
ALTER TABLE buttress_outbox ADD COLUMN length INTEGER NOT NULL DEFAULT 9223372036854775807;
ALTER TABLE buttress_outbox_hold ADD COLUMN length INTEGER NOT NULL DEFAULT 9223372036854775807;
ALTER TABLE buttress_outbox_lease ADD COLUMN length INTEGER NOT NULL DEFAULT 9223372036854775807;
ALTER TABLE buttress_outbox_relay ADD COLUMN length INTEGER NOT NULL DEFAULT 9223372036854775807;

-- Finds ends that were granted from a later time than now, because the clock was set back.
CREATE INDEX buttress_outbox_delayed_since
    ON buttress_outbox (partition, due_at - length) WHERE status = 1;
CREATE INDEX buttress_outbox_hold_since ON buttress_outbox_hold (partition, until - length);

CREATE INDEX buttress_saga_old
    ON buttress_saga (definition, ended_at) WHERE ended_at IS NOT NULL;
