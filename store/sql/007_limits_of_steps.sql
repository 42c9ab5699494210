-- What a body records has a limit together, and what it was given of its inbox
-- is its turn's.

-- bytes: of the values up to this one, it included. In the index, after the
-- number: the last entry says how many there are and how long they are. Null: it
-- was recorded before there was this limit, and does not count.
ALTER TABLE steps ADD COLUMN bytes INTEGER;
DROP INDEX steps_number;
CREATE INDEX steps_number ON steps (id, number, bytes);

-- Up to which message the turn with that lease was given the inbox of its
-- invocation. Another turn's is nobody's any more.
CREATE TABLE inboxes (
    id    INTEGER PRIMARY KEY,
    lease INTEGER NOT NULL,
    given INTEGER NOT NULL
);
