-- What waits in place: a server looks for its own when it starts. What has suspended
-- is nobody's, and there may be a million of it. (A table: one more index of
-- invocations costs every start and end, whether they touch it or not.)
CREATE TABLE waiting_in_place (id INTEGER PRIMARY KEY);
INSERT INTO waiting_in_place (id) SELECT id FROM invocations WHERE status = 4 AND lease IS NOT NULL;
