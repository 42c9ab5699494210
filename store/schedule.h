/* Schedules on disk: when each is due next, and what it made last.
 *
 * Who hands over what is due has read the row, computed the next time, and says in the write what it
 * believed (version and next_at): of two servers, or of a plan that is late, one changes the row. The
 * next time is moved in the transaction that submits. */
#pragma once

#include "store/submit.h"

struct reader;

enum {
    SCHEDULES_MAX = 10000,
    SCHEDULE_NAME_MAX = 100,
    SCHEDULE_TIMES_MAX = 1000, /* of one operation */
};

/* On disk; they never change. */
enum schedule_source { SCHEDULE_OF_FILE = 1, SCHEDULE_OF_CLIENT = 2 };

/* What happens while the last invocation of it is unfinished. */
enum schedule_overlap {
    OVERLAP_SKIP,   /* nothing */
    OVERLAP_ALLOW,  /* one more runs */
    OVERLAP_QUEUE,  /* one waits for its end, further ones are skipped */
    OVERLAP_CANCEL, /* it is cancelled, and the new one waits for its end */
};

struct schedule {
    int64_t id, version;
    struct span name, definition; /* JSON */
    enum schedule_source source;
    bool paused;
    int64_t until, next_at; /* next_at: 0, none comes, or it is paused */
    int64_t last_at, last_id;
    int64_t waiting_at; /* due then, and waits for the end of the one before; 0: none does */
    int64_t skipped;
    struct span problem;
};

/* --- writing -------------------------------------------------------------------- */

/* Makes or replaces one: its times count from `now` on, none before that is caught up with. The same
 * definition from the same source changes nothing.
 * ERR_CONFLICT: it is the file's; ERR_LIMIT: there are SCHEDULES_MAX. */
struct schedule_put {
    struct span name, definition;
    int64_t next_at; /* after `now` of the op; 0: none comes */
};
struct op_schedule_put {
    struct op op;
    struct schedule_put put;
    int64_t now;
    bool created; /* out */
};
void op_schedule_put_init(struct op_schedule_put *op);

/* The schedules of the file are these, and no others. */
struct op_schedule_sync {
    struct op op;
    const struct schedule_put *items;
    int count;
    int64_t now;
};
void op_schedule_sync_init(struct op_schedule_sync *op);

/* ERR_NOT_FOUND; ERR_CONFLICT: it is the file's. What waits goes with it. */
struct op_schedule_remove {
    struct op op;
    struct span name;
};
void op_schedule_remove_init(struct op_schedule_remove *op, struct span name);

/* Pauses one, or resumes it: what would have been due meanwhile is not. ERR_CONFLICT: it has
 * another version than that. */
struct op_schedule_pause {
    struct op op;
    int64_t id, version;
    bool paused;
    int64_t now, next_at; /* resumed: from now on; 0: none comes */
};
void op_schedule_pause_init(struct op_schedule_pause *op);

/* What is due: the row's times move, and `count` submissions are made, or what `overlap` says if the
 * last one is unfinished. ERR_CONFLICT: the row is not as believed, and nothing was done. Without
 * `moves` they are made whatever runs: ERR_NOT_FOUND if the schedule is gone. */
struct op_schedule_fire {
    struct op op;
    int64_t id;
    bool moves;
    int64_t version, believed_next; /* of moves, as the next three */
    int64_t until, next_at;
    enum schedule_overlap overlap;
    struct submission *items; /* each with its err, id and status afterwards */
    const int64_t *due;       /* when each was due */
    int count;
    int64_t left_out;    /* further times that are counted as skipped */
    struct span problem; /* why, if that was no choice; absent: none */
    int made, skipped;   /* out */
    bool waits;          /* out: one of them waits */
};
void op_schedule_fire_init(struct op_schedule_fire *op);

/* --- reading ---------------------------------------------------------------------- */

/* Spans live until the next call on the reader, or until the row function returns; false ends it. */
typedef bool schedule_row(void *context, const struct schedule *row);

MUST_USE enum err reader_schedule(struct reader *reader, struct span name, schedule_row *row, void *context);

/* After that id, in the order in which they were made. */
MUST_USE enum err reader_schedules(struct reader *reader, int64_t after, int limit, schedule_row *row,
                                   void *context);

/* Due by then, the first first; and when the first after that is due (0: none is). */
MUST_USE enum err reader_schedules_due(struct reader *reader, int64_t now, int limit, schedule_row *row,
                                       void *context);
MUST_USE enum err reader_schedules_next(struct reader *reader, int64_t now, int64_t *next_at);
