-- When receipts and barriers were written, so that old ones can be removed. 0 in rows of a release
-- that did not record the time: the first purge that finds them sets it.
ALTER TABLE {s}buttress_inbox ADD COLUMN received_at int8 NOT NULL DEFAULT 0;
ALTER TABLE {s}buttress_inbox_step ADD COLUMN received_at int8 NOT NULL DEFAULT 0;
CREATE INDEX buttress_inbox_received ON {s}buttress_inbox (received_at);
CREATE INDEX buttress_inbox_step_received ON {s}buttress_inbox_step (received_at);
