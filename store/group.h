/* Groups: invocations that were submitted together.
 *
 * A member's row says which group it belongs to and where it stands in it; that
 * never changes. What its members are is counted in the group's row, by one
 * delta a batch in the transaction of the changes: so the end of a group is
 * noticed once, whatever fails, crashes or is retried. A group is final when
 * nothing more can come (it is whole, released and closed) and all its members
 * are; a member that is retried opens it again.
 *
 * Members have the ids that follow each other in the order in which they were
 * given. In a chain each waits for the one before it, in a graph for those it
 * names: hold.h. */
#pragma once

#include "store/op.h"
#include "store/read.h"
#include "store/submit.h"

enum { GROUP_MEMBERS_MAX = 100000, GROUP_AT_ONCE_MAX = 10000 };

/* On disk; they never change. */
enum group_mode { GROUP_PARALLEL = 1, GROUP_CHAIN = 2, GROUP_GRAPH = 3 };

/* --- making one --------------------------------------------------------------- */

/* Spans are borrowed until done(). */
struct group_submission {
    /* in */
    enum group_mode mode;
    bool hold;          /* its members are promises until it is released */
    bool open;          /* more may come, by submission.group, until it is released or closed; parallel alone */
    bool fail_fast;     /* one failure cancels the rest */
    int64_t release_by; /* of one with `hold`: what is not released by then is cancelled; 0: no such time */
    int64_t retention_ms;
    struct span labels, common_args; /* JSON objects; absent: none */
    int64_t parent, parent_lease;    /* whose turn submits it; 0: nobody's */
    struct span step;                /* its name there; absent: none */
    bool detached;
    struct span callback, callback_place; /* a URL that is told of each end, and HOST:PORT of it; absent: none */
    struct span key_owner, key;           /* as of a submission, among the keys of groups */
    uint8_t key_digest[32];
    int64_t *ids; /* room for `total`: filled with the members' ids, in order, by the first op */
    int total;    /* of the members that come with it, over all ops: at most GROUP_MEMBERS_MAX */
    /* out */
    int64_t id;
    bool replayed;         /* the key was there with the same digest, or the step: id is the first one's */
    int64_t parent_failed; /* as of a submission */
    bool parent_cancelled;
};

/* A part of the members. Up to GROUP_AT_ONCE_MAX one op brings all (first and
 * last), all or nothing. Of more the first op makes the group; while they come
 * it is held, and if the last does not come it is removed: by
 * GROUP_ABANDON, or at the next start. All have the same `group`.
 *
 * op.err: OK; ERR_MISMATCH (key), ERR_CONFLICT and ERR_BUSY (parent, step) as of
 * a submission, of the first op; ERR_LIMIT (max_queued), ERR_NOT_FOUND (an id of
 * `after`) of the member `bad`; ERR_UNAVAILABLE. Then nothing of this op was done. */
struct op_group {
    struct op op;
    struct group_submission *group;
    struct submission *items; /* their `group` and `index` are set here */
    int from, count;          /* the index of the first of them */
    bool first, last;
    int bad;        /* out: the index of the member that was refused; -1: it was not for a member */
    int64_t bad_id; /* out: the id of its `after` that is not there */
};
void op_group_init(struct op_group *op, struct group_submission *group, struct submission *items, int count);

/* --- changing one --------------------------------------------------------------- */

/* What has many members goes on in steps (follow_up.h). */
enum group_change {
    GROUP_RELEASE, /* its promises may run, and nothing more comes. Of one that is final, or was not held: no change */
    GROUP_CLOSE,   /* nothing more comes */
    GROUP_CANCEL,  /* all that is not final is cancelled, and nothing more comes */
    GROUP_ABANDON, /* the last of its members did not come: it goes, as if it had never been */
};
struct op_group_change {
    struct op op;
    enum group_change what;
    int64_t id;
    bool follows; /* out: steps remain */
};
/* ERR_NOT_FOUND. ERR_CONFLICT: a release of one that was cancelled because it was not released in time. */
void op_group_change_init(struct op_group_change *op, enum group_change what, int64_t id);

/* --- reading ------------------------------------------------------------------------ */

enum group_status { GROUP_HELD, GROUP_RUNNING, GROUP_SUCCEEDED, GROUP_FAILED, GROUP_CANCELLED };
const char *group_status_name(enum group_status status); /* "held", ... */
const char *group_mode_name(enum group_mode mode);       /* "parallel", ... */

/* Spans live until the next call on the reader. */
struct group_row {
    int64_t id;
    enum group_mode mode;
    enum group_status status;
    bool open, held, fail_fast;
    bool making; /* its members are still on their way to disk */
    int total;   /* members so far */
    int64_t counts[STATUS_SLOTS];
    int64_t finished_at, release_by; /* 0: absent */
    struct span labels, common_args;
    int64_t parent; /* 0: nobody's */
    struct span step;
};
MUST_USE enum err reader_group(struct reader *reader, int64_t id, struct group_row *out);

/* How one that may be waited for stands: an invocation, as reader_get() says, or a group, as if it
 * were one: its status, and no result. ERR_NOT_FOUND. */
MUST_USE enum err reader_get_awaited(struct reader *reader, int64_t id, enum view view, struct invocation *out);

/* The arguments that its members share, appended; nothing if there are none. */
MUST_USE enum err reader_group_args(struct reader *reader, int64_t id, struct buf *out);

/* Members in their order from the one after `after` (0: from the first), at most `limit`. */
MUST_USE enum err reader_group_ids(struct reader *reader, int64_t id, int64_t after, int limit,
                                   void (*member)(void *context, int64_t id), void *context);

/* The member of a graph with that name. ERR_NOT_FOUND. */
MUST_USE enum err reader_group_named(struct reader *reader, int64_t id, struct span name, int64_t *member);

struct group_result {
    int64_t id;
    int index;
    enum status status;
    struct span name;          /* of a graph's member; absent: none */
    struct span result, error; /* absent: none */
    bool result_outside;       /* it stands outside the row, and this is a brief reader: reader_payload() */
    int64_t position;          /* where it stands in that order: the cursor that comes after it */
};
/* Ends, in submission order (final or not) or in the order of completion (final
 * ones, each once), from the one after `position` (0: from the first), at most
 * `limit`. `row` returns false to stop: that one was not taken. */
MUST_USE enum err reader_group_results(struct reader *reader, int64_t id, bool by_completion, int64_t position,
                                       int limit, bool (*row)(void *context, const struct group_result *row),
                                       void *context);
