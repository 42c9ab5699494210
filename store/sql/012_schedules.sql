-- Schedules: what submits by the clock. What a definition says is not the store's: it is JSON, read
-- by who hands over what is due. `until`: times up to then are dealt with. `next_at`: null, none comes, or it is
-- paused. `version` grows with each definition and pause, so that a plan made of an older one changes nothing.
CREATE TABLE schedules (
    id         INTEGER PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    source     INTEGER NOT NULL, -- 1: the configuration, 2: a client
    definition TEXT NOT NULL,
    version    INTEGER NOT NULL,
    paused     INTEGER NOT NULL,
    until      INTEGER NOT NULL,
    next_at    INTEGER,
    last_at    INTEGER,          -- when what ran last was due
    last_id    INTEGER,          -- and its invocation
    skipped    INTEGER NOT NULL, -- times that were due and made none
    problem    TEXT              -- why the last of them did not
);
CREATE INDEX schedules_due ON schedules (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX schedules_source ON schedules (source, id);

-- One submission a schedule that waits for the end of the one before (`behind`): it is made in
-- the transaction of that end. Its options are settled.
CREATE TABLE schedule_waiting (
    schedule      INTEGER PRIMARY KEY,
    behind        INTEGER NOT NULL,
    due_at        INTEGER NOT NULL,
    task          INTEGER NOT NULL,
    priority      INTEGER NOT NULL,
    max_retries   INTEGER NOT NULL,
    retention_ms  INTEGER NOT NULL,
    timeout_ms    INTEGER,
    run_at        INTEGER,
    expires_in_ms INTEGER,
    max_queued    INTEGER,
    args          TEXT,
    labels        TEXT
);
CREATE INDEX schedule_waiting_behind ON schedule_waiting (behind);
