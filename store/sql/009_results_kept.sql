-- Whose result is kept for whom: for one that has suspended, until it suspends
-- again or ends, so that its next turn starts with all that it asked for. (Who
-- waits in place keeps it by its waits.)
CREATE TABLE results_kept (
    waiter INTEGER NOT NULL,
    target INTEGER NOT NULL,
    PRIMARY KEY (waiter, target)
);
CREATE INDEX results_kept_target ON results_kept (target);
INSERT INTO results_kept (waiter, target) SELECT w.waiter, w.target FROM waits w JOIN suspensions s ON s.id = w.waiter;
