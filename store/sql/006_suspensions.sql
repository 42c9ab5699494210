-- Invocations that have suspended: all that is left of a turn that ended so is
-- its row here (and its state, in payloads), until the next one replaces it.
CREATE TABLE suspensions (
    id       INTEGER PRIMARY KEY,
    turns    INTEGER NOT NULL, -- that have ended so
    lease    INTEGER NOT NULL, -- of the last of them
    targets  TEXT,             -- whom it waits for, as it asked: ids with commas between; null: nobody
    inbox    INTEGER NOT NULL, -- a message wakes it
    wakes_at INTEGER,          -- a time does; null: none, or it is awake
    woken_by INTEGER,          -- 1 the targets, 2 a message, 3 the time; null: nothing yet
    given    INTEGER           -- the last message that the next turn was given
);
CREATE INDEX suspensions_due ON suspensions (wakes_at) WHERE wakes_at IS NOT NULL;
