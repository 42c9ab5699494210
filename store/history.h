/* Every change of status of an invocation: when, why, and by whom.
 *
 * The row and its attempts tell most of it: the submission, the starts, the end. What they
 * do not tell is kept, a row a change: why it went back, waits, suspensions, wakings,
 * patches, and who asked (the token's name). The first that is kept takes along
 * when the first attempt was due, which the row will forget. The newest HISTORY_MAX are there. */
#pragma once

#include "store/read.h"
#include "store/tx.h"

enum { HISTORY_MAX = 200, HISTORY_ATTEMPTS_MAX = 1000 };

/* --- keeping: the committer's ----------------------------------------------------- */

struct history_note {
    int64_t id, at;
    enum status status; /* from then on */
    int64_t until_at;   /* of scheduled */
    const char *reason;
};
/* By tx->who, if it is anybody. */
MUST_USE enum err history_note(struct tx *tx, const struct history_note *note);

/* Before the row forgets: when it was due at first; that its turn started; how it ended. */
MUST_USE enum err history_begin(struct tx *tx, int64_t id, enum status status);
MUST_USE enum err history_note_start(struct tx *tx, int64_t id);
MUST_USE enum err history_note_end(struct tx *tx, int64_t id, enum status status);

/* --- reading -------------------------------------------------------------------------- */

struct history_item {
    int64_t at;
    enum status status;
    int64_t until_at; /* of scheduled: when it becomes queued; else 0 */
    struct span reason, worker, who;
    int attempt, turn; /* 0: of none */
    bool is_start;
};

struct history {
    struct history_item *items; /* in order of time */
    int count, cap;
    bool cut;                       /* older ones were there */
    int64_t spent_ms[STATUS_SLOTS]; /* how long it had each status, among the items */
    struct buf arena;               /* their texts */
};

/* Fills one that is all zeros; whoever asks releases it, also after an error. `now` is the end of the
 * status that it has. ERR_NOT_FOUND. */
MUST_USE enum err reader_history(struct reader *reader, int64_t id, int64_t now, struct history *out);
void history_release(struct history *history);

/* What is scheduled becomes queued at its time: adds that where it is not said. And sums up the time
 * until `now`, or the end. `status` is what it has now. Pure. */
void history_settle(struct history *history, enum status status, int64_t now);
