-- Leases, what follows an end, and what is bounded in steps.

-- lease: the random token of the turn that was given out last. It stays when
-- the holder itself ended the turn (a report that comes again is known by it)
-- and is taken away when someone else did. holder: the node of the server that
-- answers for the turn. lease_until is null for a turn that lives as long as
-- that server does. follow: store/transition.h.
ALTER TABLE invocations ADD COLUMN lease INTEGER;
ALTER TABLE invocations ADD COLUMN holder INTEGER;
ALTER TABLE invocations ADD COLUMN lease_until INTEGER;
ALTER TABLE invocations ADD COLUMN follow INTEGER NOT NULL DEFAULT 0;
CREATE INDEX invocations_lease ON invocations (lease_until) WHERE lease_until IS NOT NULL;

-- Cancellations that were asked for while a turn ran.
UPDATE invocations SET follow = 1
    WHERE status = 3 AND status <> 2 AND status <> 5 AND cancel_requested_at IS NOT NULL;

-- Columns that few rows have, so that the others stay small and a row with
-- large arguments is not written anew for each of them (flag 4: it has one).
-- Rows from before have progress and progress_note in their own columns;
-- nothing writes there any more.
CREATE TABLE details (
    id            INTEGER PRIMARY KEY,
    progress      REAL,
    progress_note TEXT
);

-- What follows a change and has no bound: noted with the change, done in steps,
-- each a transaction. kind: store/follow_up.h.
CREATE TABLE follow_ups (
    seq  INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,
    id   INTEGER NOT NULL
);
