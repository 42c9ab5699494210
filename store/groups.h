/* Inside the store: what groups are on disk, and what follows for them. */
#pragma once

#include "store/follow_up.h"
#include "store/group.h"

/* Bits of `state`. On disk: they never change. */
#define GROUP_NUMBER_HELD 1
#define GROUP_NUMBER_OPEN 2
#define GROUP_NUMBER_MAKING 16
#define GROUP_NUMBER_ENDED 32
#define GROUP_NUMBER_STOPPED 64
#define GROUP_NUMBER_GONE 128
#define SQL_GROUP_HELD SQL_NUMBER(GROUP_NUMBER_HELD)
#define SQL_GROUP_OPEN SQL_NUMBER(GROUP_NUMBER_OPEN)
#define SQL_GROUP_MAKING SQL_NUMBER(GROUP_NUMBER_MAKING)
#define SQL_GROUP_ENDED SQL_NUMBER(GROUP_NUMBER_ENDED)
#define SQL_GROUP_STOPPED SQL_NUMBER(GROUP_NUMBER_STOPPED)
#define SQL_GROUP_GONE SQL_NUMBER(GROUP_NUMBER_GONE)
enum group_state {
    GROUP_IS_HELD = GROUP_NUMBER_HELD, /* its members are promises */
    GROUP_IS_OPEN = GROUP_NUMBER_OPEN, /* more may come */
    GROUP_FAILS_FAST = 4,
    GROUP_IS_MAKING = GROUP_NUMBER_MAKING, /* its members are on their way */
    GROUP_HAS_ENDED = GROUP_NUMBER_ENDED,
    GROUP_IS_STOPPED = GROUP_NUMBER_STOPPED, /* what is not final is being cancelled: */
    GROUP_IS_GONE = GROUP_NUMBER_GONE,       /* it is being removed */
    GROUP_WAS_LATE = 256,                    /* because it was not released in time */
    GROUP_HAS_FAILED = 512,                  /* because one has failed; neither: a client said so */
};

/* Of an invocation: its group is still being made, and nobody may know it. */
#define SQL_IS_BEING_MADE "grp IS NOT NULL AND grp IN (SELECT id FROM groups_making)"

/* One more member of a group that is open: s->index, and whether it is held. ERR_NOT_FOUND
 * (s->missing); ERR_CONFLICT (s->group_closed). */
MUST_USE enum err group_admit(struct tx *tx, struct submission *s);

/* It is a member now. */
MUST_USE enum err group_note_member(struct tx *tx, const struct submission *s);

/* The steps of what has many members. */
MUST_USE enum err group_release(struct tx *tx, int64_t id, struct follow_up_room *room, bool *left);
MUST_USE enum err group_stop(struct tx *tx, int64_t id, struct follow_up_room *room, bool *left);
MUST_USE enum err group_remove(struct tx *tx, int64_t id, struct follow_up_room *room, bool *left);

/* It is to be stopped, for one of these reasons (0: a client's): the first steps at once. */
MUST_USE enum err group_begin_stop(struct tx *tx, int64_t id, int reason);

/* A cancellation, as a step of any operation. OK also if there is no such group. */
MUST_USE enum err group_cancel_one(struct tx *tx, int64_t id);

/* Its row changed: it is looked at when the batch is counted, and those who follow it hear so. */
void group_touch(struct tx *tx, int64_t id);

/* Before tx_write_counts(): what the batch has changed is counted in the groups it concerns,
 * and what follows from that is done. */
MUST_USE enum err groups_count(struct tx *tx);

/* UPKEEP_RELEASE_BY: those that were not released in time; when the next one is due, 0: never. */
MUST_USE enum err groups_expire(struct tx *tx, struct op_upkeep *op, int64_t *next_at);

/* UPKEEP_PRUNE: the steps that remove those past their time begin, and of the oldest while
 * there are `over` invocations too many and nothing else to prune. How many groups were begun
 * with, and when the next one is due (0: none is known). */
MUST_USE enum err groups_prune(struct tx *tx, bool over, int *begun, int64_t *next_at);

/* At a start: what this server did not make to its end. */
MUST_USE enum err groups_recover(struct tx *tx);
