-- The first schema. Written in the dialect that every driver shares; a driver
-- replaces the type word of the key if its own must read otherwise.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- Names as small numbers: they stand in every row and every index.
CREATE TABLE tasks (
    id     INTEGER PRIMARY KEY,
    name   TEXT NOT NULL UNIQUE,
    paused INTEGER NOT NULL DEFAULT 0
);

-- id is a Snowflake id; created_at is its millisecond. status: store/status.h.
-- attempt counts starts, failures spend max_retries, recoveries spend
-- max_recoveries, deaths are crashes of the server for which nobody was to blame.
-- args and result above 1 kB stand in payloads (flags 1 and 2): SQLite writes a
-- row whole on each update.
CREATE TABLE invocations (
    id           INTEGER PRIMARY KEY,
    task         INTEGER NOT NULL,
    status       INTEGER NOT NULL,
    priority     INTEGER NOT NULL,
    attempt      INTEGER NOT NULL,
    max_retries  INTEGER NOT NULL,
    retention_ms INTEGER NOT NULL,
    flags        INTEGER NOT NULL,
    timeout_ms   INTEGER,
    run_at       INTEGER,
    expires_at   INTEGER,
    args         TEXT,
    labels       TEXT,
    key_owner    TEXT,
    key          TEXT,
    key_digest   BLOB,
    started_at   INTEGER,
    finished_at  INTEGER,
    prune_at     INTEGER,
    worker       TEXT,
    result       TEXT,
    error        TEXT,
    failures     INTEGER NOT NULL DEFAULT 0,
    recoveries   INTEGER NOT NULL DEFAULT 0,
    deaths       INTEGER NOT NULL DEFAULT 0,
    cancel_requested_at INTEGER,
    progress      REAL,
    progress_note TEXT
);

-- Ready work, a task at a time, so that a paused task's million rows block nobody.
CREATE INDEX invocations_ready ON invocations (task, priority, id) WHERE status = 2;
CREATE INDEX invocations_task ON invocations (task, id);
-- Neither queued (invocations_ready has them) nor succeeded (nearly all are).
-- (Queries repeat a partial index's condition word for word: that is how SQLite knows it.)
CREATE INDEX invocations_status ON invocations (status, id) WHERE status <> 2 AND status <> 5;
CREATE INDEX invocations_due ON invocations (run_at) WHERE status = 1;
CREATE INDEX invocations_expiry ON invocations (expires_at) WHERE status IN (1, 2) AND expires_at IS NOT NULL;
CREATE INDEX invocations_prune ON invocations (prune_at) WHERE prune_at IS NOT NULL;
CREATE UNIQUE INDEX invocations_key ON invocations (key_owner, key) WHERE key IS NOT NULL;

-- kind 1: args, 2: result.
CREATE TABLE payloads (
    id   INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (id, kind)
);

CREATE TABLE labels (
    name  TEXT NOT NULL,
    value TEXT NOT NULL,
    id    INTEGER NOT NULL,
    PRIMARY KEY (name, value, id)
);
CREATE INDEX labels_id ON labels (id);

-- Failed invocations by their error's type.
CREATE TABLE errors (
    type TEXT NOT NULL,
    id   INTEGER NOT NULL,
    PRIMARY KEY (type, id)
);
CREATE INDEX errors_id ON errors (id);

-- Attempts before the last; the last one stands in the invocation's own row.
CREATE TABLE attempts (
    id          INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    status      INTEGER NOT NULL,
    started_at  INTEGER,
    finished_at INTEGER,
    worker      TEXT,
    error       TEXT,
    PRIMARY KEY (id, attempt)
);

-- Output as it came. stream 1: stdout, 2: stderr.
CREATE TABLE logs (
    id      INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    stream  INTEGER NOT NULL,
    data    BLOB NOT NULL,
    PRIMARY KEY (id, seq)
);

-- How many invocations of a task have a status: one delta a batch, in the same
-- transaction, so that nothing is ever counted over the table.
CREATE TABLE counters (
    task   INTEGER NOT NULL,
    status INTEGER NOT NULL,
    n      INTEGER NOT NULL,
    PRIMARY KEY (task, status)
);
