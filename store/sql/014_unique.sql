-- What few invocations have beside their row; `flags` says that there is something.

-- A place that one invocation of a task may have. scope: store/particulars.h. The row
-- stays when the place is given back, so that a retry can take it again.
CREATE TABLE uniques (
    id       INTEGER PRIMARY KEY,
    task     INTEGER NOT NULL,
    key      BLOB NOT NULL,
    scope    INTEGER NOT NULL,
    until_at INTEGER,
    first_at INTEGER NOT NULL,
    taken    INTEGER NOT NULL
);
CREATE UNIQUE INDEX uniques_place ON uniques (task, key) WHERE taken = 1;

-- Idempotency keys that were answered with an invocation that was there.
CREATE TABLE further_keys (
    key_owner  TEXT NOT NULL,
    key        TEXT NOT NULL,
    key_digest BLOB NOT NULL,
    id         INTEGER NOT NULL,
    number     INTEGER NOT NULL,
    PRIMARY KEY (key_owner, key)
);
CREATE INDEX further_keys_id ON further_keys (id, number);

-- Under which key a success is kept, and how long.
CREATE TABLE cache_keys (
    id     INTEGER PRIMARY KEY,
    key    BLOB NOT NULL,
    for_ms INTEGER NOT NULL
);
CREATE TABLE cached_results (
    task     INTEGER NOT NULL,
    key      BLOB NOT NULL,
    source   INTEGER NOT NULL,
    until_at INTEGER NOT NULL,
    result   TEXT,
    PRIMARY KEY (task, key)
);
CREATE INDEX cached_results_until ON cached_results (until_at);
CREATE TABLE cached_from (
    id     INTEGER PRIMARY KEY,
    source INTEGER NOT NULL
);
CREATE TABLE cache_hits (
    task INTEGER PRIMARY KEY,
    n    INTEGER NOT NULL
);

-- open: it is still to be looked at. for_ms: how long it was at first.
CREATE TABLE deadlines (
    id     INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL,
    for_ms INTEGER NOT NULL,
    open   INTEGER NOT NULL
);
CREATE INDEX deadlines_at ON deadlines (at) WHERE open = 1;

-- Arguments that a task has an index of.
CREATE TABLE arguments (
    task INTEGER NOT NULL,
    term TEXT NOT NULL,
    id   INTEGER NOT NULL,
    PRIMARY KEY (task, term, id)
);
CREATE INDEX arguments_id ON arguments (id);

-- Changes that neither the row nor its attempts tell. seq 0: the submission.
CREATE TABLE history (
    id       INTEGER NOT NULL,
    seq      INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    status   INTEGER NOT NULL,
    until_at INTEGER,
    reason   TEXT,
    attempt  INTEGER,
    worker   TEXT,
    who      TEXT,
    PRIMARY KEY (id, seq)
);
