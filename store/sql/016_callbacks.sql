-- Who is to be told of the end of what, an invocation (kind 1) or what else has an id.
-- made: how many deliveries were made due so far. place: HOST:PORT of the URL.
CREATE TABLE callbacks (
    id    INTEGER PRIMARY KEY,
    kind  INTEGER NOT NULL,
    url   TEXT NOT NULL,
    place TEXT NOT NULL,
    made  INTEGER NOT NULL
);

-- Each end makes one. event: the status it became; attempt and at: of which attempt
-- that was, and when. status 1: pending (to be tried at next_at), 2: delivered, 3: failed.
CREATE TABLE deliveries (
    owner        INTEGER NOT NULL,
    n            INTEGER NOT NULL,
    kind         INTEGER NOT NULL,
    event        INTEGER NOT NULL,
    attempt      INTEGER NOT NULL,
    at           INTEGER NOT NULL,
    url          TEXT NOT NULL,
    place        TEXT NOT NULL,
    status       INTEGER NOT NULL,
    attempts     INTEGER NOT NULL,
    next_at      INTEGER,
    last_status  INTEGER,
    last_error   TEXT,
    created_at   INTEGER NOT NULL,
    delivered_at INTEGER,
    PRIMARY KEY (owner, n)
);
CREATE INDEX deliveries_due ON deliveries (place, next_at) WHERE status = 1;

-- Where something is pending, and when its first is due: so a place that takes nothing
-- stands in the way of no other, however much is pending there. silences: how often in
-- a row there was no answer; then it rests until rest_until, and is asked for one at a time.
CREATE TABLE callback_places (
    place      TEXT PRIMARY KEY,
    next_at    INTEGER NOT NULL,
    silences   INTEGER NOT NULL,
    rest_until INTEGER NOT NULL
);
CREATE INDEX callback_places_due ON callback_places (next_at);
