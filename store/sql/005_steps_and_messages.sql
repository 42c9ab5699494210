-- What a body has recorded, what it sends, and what it is sent.

-- number: the n-th of its invocation, in the order in which they were recorded.
CREATE TABLE steps (
    id     INTEGER NOT NULL,
    name   TEXT NOT NULL,
    number INTEGER NOT NULL,
    value  TEXT NOT NULL,
    at     INTEGER NOT NULL,
    PRIMARY KEY (id, name)
);
CREATE INDEX steps_number ON steps (id, number);

-- kind 1: out (a turn sent it), 2: in (it was sent to the invocation). seq comes
-- from a mark in meta (last_message) and never comes twice. number: the n-th of
-- its kind in its invocation. The key is the sender's, for an invocation's inbox.
CREATE TABLE messages (
    seq        INTEGER PRIMARY KEY,
    id         INTEGER NOT NULL,
    kind       INTEGER NOT NULL,
    number     INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    body       TEXT NOT NULL,
    key_owner  TEXT,
    key        TEXT,
    key_digest BLOB
);
CREATE INDEX messages_id ON messages (id, kind, seq);
CREATE INDEX messages_kind ON messages (kind, seq);
CREATE UNIQUE INDEX messages_key ON messages (id, key_owner, key) WHERE key IS NOT NULL;

-- The seq of the last message of the inbox that a turn has taken.
ALTER TABLE invocations ADD COLUMN inbox_read INTEGER;
