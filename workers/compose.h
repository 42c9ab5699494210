/* Arguments that are made when a turn starts: of what a group shares (`common_args`) and of the
 * results of others (`{"$result": ...}`, workers/tasks/reference.h).
 *
 * At submission:
 *
 *     compose_find()      every reference is checked, and said to who knows names and ids;
 *                         if there is one, or common_args, the submission is `composed`
 *     compose_check()     do they fit the task? A reference fits everywhere
 *
 * References are looked for in what comes after something, is a link of a chain, or has a name in a
 * graph. In all other arguments `$result` is a name like any other, and nothing is looked for.
 *
 * When it runs (workers/composed.h): compose_add_uncovered() of what is shared, compose_substitute()
 * in that and in its own, then compose_bind().
 *
 * All that comes in has passed json_check(). What is not told apart stays as it was sent, byte for
 * byte. Pure. Threads: no shared state. */
#pragma once

#include "workers/tasks/params.h"
#include "workers/tasks/reference.h"
#include "workers/tasks/task.h"

enum {
    COMPOSE_REFERENCES_MAX = 1000,
    COMPOSE_COMMON_NAMES_MAX = 256,
    COMPOSE_COMMON_REFERENCES_MAX = 16,
    COMPOSE_COMMON_BYTES_MAX = 1 << 20,
    /* Of the arguments that are made: a result of the largest size, and what stands around it. With all
     * else that a turn starts with, a line to a pool's child holds them. */
    COMPOSE_MIB_MAX = 10,
    COMPOSE_BYTES_MAX = COMPOSE_MIB_MAX << 20,
    COMPOSE_DEPTH_MAX = JSON_DEPTH_MAX - 1,
};

/* Calls for each reference in `args` (absent: none), in their order, until it returns false. What it
 * gives lives until that returns, but for `text`, which is the arguments'. `each` may add faults of its
 * own, such as `there is no member "b"` at its pointer + "/$result"; it may be NULL. Returns how many
 * there are; those that are faulty, which are added, are not called for. `pointer` is that of the
 * arguments: "/args". */
typedef bool compose_each(void *context, const struct reference *reference);
int compose_find(struct span args, const char *pointer, compose_each *each, void *context, struct faults *faults);

/* --- what a group shares ---------------------------------------------------------------------- */

/* An object within the limits? ERR_INVALID with faults under `pointer`. What a reference in it says is
 * for compose_find(). */
MUST_USE enum err compose_check_common(struct span common, const char *pointer, struct faults *faults);

/* Do these arguments of a member cover the shared one of that name? A reference in one that is covered
 * is not the member's: the first link of a chain may give what the later ones take from a result. */
bool compose_covers(const struct params *params, struct span args, struct span name);

/* Appends the same names with a reference in place of each value: what compose_check() takes for
 * common arguments of which it has seen the values, so that large ones are walked once and not for
 * every member. (Nothing is to be looked for in it.) */
void compose_add_sketch(struct buf *out, struct span common);

/* --- do they fit? ------------------------------------------------------------------------------- */

/* `args` over `common` (each absent if there are none): would the task take them? As params_bind() and
 * kind_check_args() do, but that a reference in `common`, or with `refers` one in `args`, fits everywhere,
 * and that of arguments which are one reference as a whole nothing is known. ERR_INVALID with every fault
 * added, under "/args" and "/common_args". `scratch` is used and left with what it likes.
 *
 * Common arguments alone, once a task: with COMPOSE_ANY for `args`, and `refers`. */
#define COMPOSE_ANY SPAN("{\"$result\":true}")
MUST_USE enum err compose_check(const struct task *task, struct span common, struct span args, bool refers,
                                struct buf *scratch, struct faults *faults);

/* --- making them ---------------------------------------------------------------------------------- */

/* Appends common arguments without those that `args` cover. */
void compose_add_uncovered(struct buf *out, const struct params *params, struct span common, struct span args);

/* Gives the whole result that is meant, to live until the next call; absent: null, wherever the path
 * would lead. False, with a sentence: there is none. */
typedef bool compose_result(void *context, const struct reference *reference, struct span *value,
                            struct reason *why);

/* Appends `args` with each reference replaced by its value, or the part of it that its path leads to.
 * ERR_INVALID with faults under `pointer`, which name the reference; ERR_LIMIT, with a fault: they
 * would be longer than COMPOSE_BYTES_MAX. */
MUST_USE enum err compose_substitute(struct span args, const char *pointer, compose_result *result, void *context,
                                     struct buf *out, struct faults *faults);

/* Appends `args` over `common` as the body gets them: bound if there are params, else the one object
 * over the other; those of the two that there are; null if there is neither. ERR_INVALID with faults, under
 * "/args" and "/common_args": they do not fit; without params only named arguments can be merged.
 * ERR_LIMIT, with a fault: as above. */
MUST_USE enum err compose_bind(const struct params *params, struct span common, struct span args, struct buf *out,
                               struct faults *faults);
