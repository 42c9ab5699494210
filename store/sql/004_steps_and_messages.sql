-- What a body has recorded.

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
