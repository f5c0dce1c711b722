-- When each entry of a log was recorded. NULL in rows of a release that did not record the time.
ALTER TABLE buttress_saga_entry ADD COLUMN recorded_at INTEGER;
