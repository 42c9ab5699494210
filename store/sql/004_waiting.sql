-- Children, waits, and the order in which what is waited for goes.

-- Where a queued one stands among those of its priority, the lowest first; null:
-- where its id says. store/change.h. Those that have one stand in an index of
-- their own: few do, and lists go by the id. (No word of the status there: the
-- index is none of the business of an update that starts or ends one.)
ALTER TABLE invocations ADD COLUMN rank INTEGER;
CREATE INDEX invocations_ranked ON invocations (task, priority, rank) WHERE rank IS NOT NULL;

-- Of one that waits, how many of those that it waits for are still to end.
ALTER TABLE invocations ADD COLUMN waits_left INTEGER;

-- Who waits for whom; gone with the wait. ended: the target has, and waits_left
-- knows it. timed: the wait ends by itself.
CREATE TABLE waits (
    waiter INTEGER NOT NULL,
    target INTEGER NOT NULL,
    ended  INTEGER NOT NULL,
    timed  INTEGER NOT NULL,
    PRIMARY KEY (waiter, target)
);
CREATE INDEX waits_target ON waits (target, ended, waiter);

-- Who was submitted by whose turn, and as which step of it: a later turn finds
-- it again by that name. follows: a cancellation of the parent
-- reaches it (1), has reached it (2), or does not: it is detached (0).
CREATE TABLE children (
    id      INTEGER PRIMARY KEY,
    parent  INTEGER NOT NULL,
    step    TEXT,
    follows INTEGER NOT NULL
);
CREATE INDEX children_parent ON children (parent, id);
CREATE INDEX children_follow ON children (parent, id) WHERE follows = 1;
CREATE UNIQUE INDEX children_step ON children (parent, step) WHERE step IS NOT NULL;
