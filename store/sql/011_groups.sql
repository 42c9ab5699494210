-- Groups of invocations, and what is held: promises and dependents.

-- grp: the group it is a member of, member: its number there, from 0. Neither ever
-- changes (but for one that outlives its group).
ALTER TABLE invocations ADD COLUMN grp INTEGER;
ALTER TABLE invocations ADD COLUMN member INTEGER;

-- mode and state: store/group.h and store/groups.h. The counts are those of its members
-- by status: one delta a batch, in the transaction of the changes. ends: how often a
-- member has ended so far.
CREATE TABLE groups (
    id           INTEGER PRIMARY KEY,
    mode         INTEGER NOT NULL,
    state        INTEGER NOT NULL,
    total        INTEGER NOT NULL,
    held         INTEGER NOT NULL DEFAULT 0,
    scheduled    INTEGER NOT NULL DEFAULT 0,
    queued       INTEGER NOT NULL DEFAULT 0,
    running      INTEGER NOT NULL DEFAULT 0,
    waiting      INTEGER NOT NULL DEFAULT 0,
    succeeded    INTEGER NOT NULL DEFAULT 0,
    failed       INTEGER NOT NULL DEFAULT 0,
    cancelled    INTEGER NOT NULL DEFAULT 0,
    ends         INTEGER NOT NULL DEFAULT 0,
    retention_ms INTEGER NOT NULL,
    labels       TEXT,
    key_owner    TEXT,
    key          TEXT,
    key_digest   BLOB,
    release_by   INTEGER,
    finished_at  INTEGER,
    prune_at     INTEGER
);
CREATE UNIQUE INDEX groups_key ON groups (key_owner, key) WHERE key IS NOT NULL;
CREATE INDEX groups_release ON groups (release_by) WHERE release_by IS NOT NULL;
CREATE INDEX groups_prune ON groups (prune_at) WHERE prune_at IS NOT NULL;

-- Those whose members are still on their way: what a crash leaves here is removed.
CREATE TABLE groups_making (
    id     INTEGER PRIMARY KEY,
    holder INTEGER NOT NULL -- the node of the server that makes it
);

-- In the order of the ids, which is that of the submission.
CREATE TABLE members (
    grp INTEGER NOT NULL,
    id  INTEGER NOT NULL,
    PRIMARY KEY (grp, id)
);

CREATE TABLE member_names (
    grp  INTEGER NOT NULL,
    name TEXT NOT NULL,
    id   INTEGER NOT NULL,
    PRIMARY KEY (grp, name)
);
CREATE UNIQUE INDEX member_names_id ON member_names (id);

-- The ends of members, numbered as they came. failed: the row's at that time; another
-- one there by now says that it was retried since, and this end counts no more.
CREATE TABLE completions (
    grp    INTEGER NOT NULL,
    number INTEGER NOT NULL,
    id     INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    PRIMARY KEY (grp, number)
);

-- What holds one, or held it (reasons: bits; 0: nothing does). unmet: how many of those
-- it comes after are not final, bad: how many have failed or were cancelled. delay_ms and
-- expires_ms count from its release. cancelled_by: on whose account it was cancelled.
CREATE TABLE holds (
    id           INTEGER PRIMARY KEY,
    reasons      INTEGER NOT NULL,
    policy       INTEGER NOT NULL,
    unmet        INTEGER NOT NULL,
    bad          INTEGER NOT NULL,
    delay_ms     INTEGER,
    expires_ms   INTEGER,
    release_by   INTEGER,
    cancelled_by INTEGER
);
CREATE INDEX holds_release ON holds (release_by) WHERE release_by IS NOT NULL;

-- Who comes after whom. state 0: the predecessor is not final; 1: it is, and the
-- dependent knows; 2: the dependent is final.
CREATE TABLE dependencies (
    id          INTEGER NOT NULL,
    position    INTEGER NOT NULL,
    predecessor INTEGER NOT NULL,
    state       INTEGER NOT NULL,
    PRIMARY KEY (id, position)
);
CREATE INDEX dependencies_predecessor ON dependencies (predecessor, id, state);

-- How far a step has come that goes through rows and leaves them there.
ALTER TABLE follow_ups ADD COLUMN position INTEGER;
