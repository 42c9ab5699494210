-- Loops: a task that is renewed each time it completes. Each iteration is an
-- invocation; all that a loop knows of them is the current one and how many there were,
-- so that a billion of them cost it nothing.

-- status and next: store/loop.h. args and result above 1 kB stand in payloads, under the
-- loop's id (flags 1 and 2); its inbox stands in messages, under that id too.
CREATE TABLE loops (
    id             INTEGER PRIMARY KEY,
    name           TEXT,
    digest         BLOB NOT NULL,    -- of what it was made from: the same again makes no other
    status         INTEGER NOT NULL,
    task           INTEGER NOT NULL,
    next           INTEGER NOT NULL, -- where the next arguments come from
    continues      INTEGER NOT NULL, -- after a failure
    priority       INTEGER NOT NULL,
    max_retries    INTEGER NOT NULL,
    retention_ms   INTEGER NOT NULL,
    delay_ms       INTEGER NOT NULL,
    timeout_ms     INTEGER,
    max_iterations INTEGER,
    labels         TEXT,
    args           TEXT,             -- of the next iteration
    result         TEXT,             -- the last
    flags          INTEGER NOT NULL DEFAULT 0,
    iteration      INTEGER NOT NULL DEFAULT 0, -- how many are final
    invocation     INTEGER,          -- the current one; null: none is made
    inbox_read     INTEGER,          -- the last message that an iteration has taken
    error          TEXT,             -- of a failed one
    finished_at    INTEGER,
    prune_at       INTEGER,
    set_id         INTEGER,
    slot           INTEGER,          -- of the set's, the one it holds
    slot_since     INTEGER,
    ticket         INTEGER,          -- its place among those that wait for one
    due_at         INTEGER           -- it rests, without a slot, until then
);
CREATE UNIQUE INDEX loops_name ON loops (name) WHERE name IS NOT NULL;
CREATE INDEX loops_status ON loops (status, id);
CREATE INDEX loops_prune ON loops (prune_at) WHERE prune_at IS NOT NULL;
CREATE INDEX loops_due ON loops (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX loops_set ON loops (set_id, id) WHERE set_id IS NOT NULL;
CREATE UNIQUE INDEX loops_slot ON loops (set_id, slot) WHERE slot IS NOT NULL;
CREATE INDEX loops_ticket ON loops (set_id, ticket) WHERE ticket IS NOT NULL;

-- Whose iteration an invocation is, and which.
CREATE TABLE iterations (
    id     INTEGER PRIMARY KEY,
    loop   INTEGER NOT NULL,
    number INTEGER NOT NULL
);
CREATE INDEX iterations_loop ON iterations (loop, id);

-- Sets of loops, which share slots. A set goes with its last loop.
CREATE TABLE sets (
    id        INTEGER PRIMARY KEY,
    name      TEXT NOT NULL UNIQUE,
    slots     INTEGER NOT NULL,
    by_turn   INTEGER NOT NULL,  -- a loop holds a slot for a turn at a time
    fail_fast INTEGER NOT NULL,
    paused    INTEGER NOT NULL DEFAULT 0,
    loops     INTEGER NOT NULL DEFAULT 0, -- that are there,
    used      INTEGER NOT NULL DEFAULT 0, -- that hold a slot,
    waiting   INTEGER NOT NULL DEFAULT 0, -- that wait for one
    tickets   INTEGER NOT NULL DEFAULT 0, -- that were given out
    action    INTEGER,           -- on its way to all of its loops (store/set.h),
    reached   INTEGER            -- and the last one that it has reached
);
