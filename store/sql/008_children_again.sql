-- What becomes of the children of one that runs again.

-- How often it failed and was to run again, by its own budget or by a client's
-- retry; null: never.
ALTER TABLE invocations ADD COLUMN failed INTEGER;

-- As which step a child was asked for last: how often its parent had failed by
-- then. A step's child that did not succeed runs again if the parent has failed
-- since.
ALTER TABLE children ADD COLUMN asked INTEGER;

-- follows 3: the parent was cancelled, or starts from nothing, and runs again by
-- now: a cancellation of that one is on its way to this child alone.
CREATE INDEX children_dropped ON children (parent, id) WHERE follows = 3;
