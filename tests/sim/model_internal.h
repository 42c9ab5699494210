/* Inside the model.
 *
 *     model.c         rows, what follows a change, batches
 *     model_turn.c    a turn: its start, its end, its waits
 *     model_client.c  what clients ask
 *     model_held.c    what is held, and who comes after whom
 *     model_group.c   groups
 *     model_time.c    what time asks; recovery */
#pragma once

#include "store/dependents.h"
#include "store/groups.h"
#include "store/transition.h"
#include "tests/sim/model.h"

/* --- model.c: rows --- */

struct row *row_add(struct model *model, int64_t id);
void row_remove(struct model *model, struct row *row);
int64_t id_take(struct model *model);
struct ready row_ready(const struct row *row);

/* The row went from one status to another, and has been written: what follows, and the change. */
void row_moved(struct model *model, struct row *row, enum status from, unsigned follow, struct change note);
struct change *model_note(struct model *model, int64_t id, int task, enum status from, enum status to);
void model_follow_up(struct model *model, int kind, int64_t id);

/* What only a turn had. */
void row_clear_turn(struct row *row);

/* --- model_turn.c --- */

void turn_claim(struct model *model, struct deed *deed, struct deed *end);
void turn_finish(struct model *model, struct deed *deed);
void turn_suspend(struct model *model, struct deed *deed);
void turn_wait(struct model *model, struct deed *deed);
void turn_resume(struct model *model, struct deed *deed);
void turn_renew(struct model *model, struct deed *deed);
void turn_lose(struct model *model, struct deed *deed);

void waits_wake(struct model *model, int64_t target);
void waits_again(struct model *model, int64_t target);
bool suspension_wakes(struct model *model, struct row *row); /* false: it is not suspended */
bool row_is_kept(const struct model *model, int64_t id);

/* --- model_client.c --- */

void client_submit(struct model *model, struct deed *deed);
void client_alter(struct model *model, struct deed *deed);
void row_insert(struct model *model, struct submission *s);
void row_cancel(struct model *model, struct row *row, unsigned statuses, enum why why);
void row_expire(struct model *model, struct row *row);
void row_back(struct model *model, struct row *row, enum status to);               /* a client's retry */
void row_lost(struct model *model, struct row *row, enum status to, enum why why); /* a turn was */

/* --- model_held.c --- */

enum err held_check(const struct model *model, struct submission *s);
void held_note(struct model *model, struct row *row, const struct submission *s);
void held_let_go(struct model *model, struct row *row, unsigned reason);
void held_release(struct model *model, struct row *row, int64_t run_at, int64_t expires_at);
bool held_tell(struct model *model, struct row *row); /* its end; true: more follows */
void held_tell_rest(struct model *model, int64_t id);
bool held_again(struct model *model, struct row *row); /* its end was taken back */
void held_again_rest(struct model *model, int64_t id);
enum err held_retry(struct model *model, struct row *row);
void client_release(struct model *model, struct deed *deed);

/* --- model_group.c --- */

enum err group_joins(struct model *model, struct submission *s);
void client_group(struct model *model, struct deed *deed);
void client_group_change(struct model *model, struct deed *deed);
void groups_counted(struct model *model);
void groups_late(struct model *model, struct op_upkeep *op);
void groups_pruned(struct model *model);
void group_gone(struct model *model, int64_t id);

/* --- model_time.c --- */

void time_upkeep(struct model *model, struct deed *deed);
void time_refill(struct model *model, struct deed *deed);
