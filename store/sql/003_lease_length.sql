-- How long a lease that has a time is given for, each time it is renewed: one
-- that outlives its server begins anew with that length. Of a turn under way
-- with a lease_until alone.
ALTER TABLE invocations ADD COLUMN lease_ms INTEGER;
