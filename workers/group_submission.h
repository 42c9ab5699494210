/* A group as JSON, read into what the store takes: the group's own fields, and its
 * members, in one document or as lines.
 *
 *     {"task": NAME, "args": [[1, 2], {"x": 3}, 4], ...}      options beside `task` are every member's
 *     {"invocations": [{"task": NAME, "args": ..., "name": "a", "after": ["b"]}, ...], ...}
 *
 * As lines the first has the group's own fields; each one after it is the arguments of a
 * member, if that names a task, or else a member.
 *
 *     struct group_read *read = group_read_new(&context, body, lines, member_bytes);
 *     while (group_read_go_on(read, until_us))
 *         ...
 *     if (read->err == OK) ... read->group, read->items
 *     group_read_free(read);
 *
 * Threads: one at a time. */
#pragma once

#include "store/group.h"
#include "workers/submission.h"

struct group_read {
    struct group_submission group;
    struct submission *items; /* group.total of them; their spans point into the body, and into what this has */
    bool one_task;            /* its members are `args`, and not `invocations` */
    enum err err;             /* ERR_INVALID: `faults` says all that is wrong, as of a document */
    bool no_json;             /* the one fault is that the text is no JSON */
    struct faults faults;

    /* Its own. */
    struct group_reading *reading;
};

/* The body is not checked yet, and is borrowed, as is what the context points to (but
 * for its scratch and what it has for callers, which are not used). A member may have so
 * many bytes. */
struct group_read *group_read_new(const struct submission_context *context, struct span body, bool lines,
                                  int64_t member_bytes);
void group_read_free(struct group_read *read); /* takes NULL */

/* Reads on, about until then (clock_mono_us). False: it is over, and `err` is set. */
bool group_read_go_on(struct group_read *read, int64_t until_us);

/* The same of the names alone, which have no more than a body's size: which is in a
 * circle? A member's index, -1 if none is. `after` and `counts` say which members each
 * comes after. */
int group_circle(const int *const *after, const int *counts, int count);
