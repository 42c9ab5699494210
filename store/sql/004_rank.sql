-- Where a queued one stands among those of its priority, the lowest first; null:
-- where its id says. store/change.h. Those that have one stand in an index of
-- their own: few do, and lists go by the id.
ALTER TABLE invocations ADD COLUMN rank INTEGER;
CREATE INDEX invocations_ranked ON invocations (task, priority, rank) WHERE status = 2 AND rank IS NOT NULL;
