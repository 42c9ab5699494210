-- What waits in place, by the server that answers for it: that looks for its own when
-- it starts. What has suspended is nobody's, and there may be a million of it.
CREATE INDEX invocations_in_place ON invocations (holder) WHERE status = 4 AND lease IS NOT NULL;
