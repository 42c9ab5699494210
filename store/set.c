/* Slots that loops share. A permit is a number in the row of the loop that holds it, unique
 * in its set; `used` and `waiting` count those rows, in the same transaction. */
#include "store/set.h"

#include "store/internal.h"
#include "store/loop_turn.h"
#include "store/loops.h"
#include "store/sets.h"

enum { ROWS_A_LOOP = 5 /* that a step may touch for one */ };

struct set {
    int64_t id;
    int64_t slots, used, waiting;
    bool by_turn, fail_fast, paused;
    enum set_alter acting;
    int64_t reached;
};

#define SET_COLUMNS "id, slots, used, waiting, by_turn, fail_fast, paused, action, reached"

static enum err step_set(struct db_stmt *stmt, struct set *out)
{
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    if (err == OK)
        *out = (struct set){
            .id = db_int(stmt, 0),
            .slots = db_int(stmt, 1),
            .used = db_int(stmt, 2),
            .waiting = db_int(stmt, 3),
            .by_turn = db_int(stmt, 4),
            .fail_fast = db_int(stmt, 5),
            .paused = db_int(stmt, 6),
            .acting = (enum set_alter)db_int(stmt, 7),
            .reached = db_int(stmt, 8),
        };
    db_reset(stmt);
    return err;
}

static enum err set_read(struct tx *tx, int64_t id, struct set *out)
{
    return step_set(DB_QUERY(tx->db, "SELECT " SET_COLUMNS " FROM sets WHERE id = $1", v_int(id)), out);
}

static enum err set_find(struct tx *tx, struct span name, struct set *out)
{
    return step_set(DB_QUERY(tx->db, "SELECT " SET_COLUMNS " FROM sets WHERE name = $1", v_text(name)), out);
}

static struct change *set_note(struct tx *tx, const struct set *set)
{
    return tx_change(tx, set->id, 0, STATUS_SCHEDULED, STATUS_SCHEDULED);
}

static enum err note_follow_up(struct tx *tx, const struct set *set, enum follow_up kind)
{
    set_note(tx, set)->follow_up = true;
    return follow_up_note(tx, kind, set->id);
}

/* --- joining and leaving ---------------------------------------------------------------- */

static bool is_as_said(const struct set *set, const struct set_spec *spec)
{
    return (!spec->slots || spec->slots == set->slots) && (!spec->says_slot || spec->by_turn == set->by_turn) &&
           (!spec->says_fail_fast || spec->fail_fast == set->fail_fast);
}

static enum err make_set(struct tx *tx, const struct set_spec *spec, int64_t *id)
{
    if (!spec->slots)
        return ERR_INVALID;
    *id = id_next(&tx->store->ids, tx->id_now);
    return DB_EXECUTE(
        tx->db, "INSERT INTO sets (id, name, slots, by_turn, fail_fast, loops) VALUES ($1, $2, $3, $4, $5, 1)",
        v_int(*id), v_text(spec->name), v_int(spec->slots), v_int(spec->by_turn), v_int(spec->fail_fast));
}

enum err set_join(struct tx *tx, const struct set_spec *spec, int64_t *id)
{
    struct set set;
    *id = 0;
    if (!spec->name.p)
        return OK;
    enum err err = set_find(tx, spec->name, &set);
    if (err == ERR_NOT_FOUND)
        return make_set(tx, spec, id);
    if (err == OK && !is_as_said(&set, spec))
        return ERR_CONFLICT;
    *id = set.id;
    return err == OK ? DB_EXECUTE(tx->db, "UPDATE sets SET loops = loops + 1 WHERE id = $1", v_int(set.id)) : err;
}

enum err set_leave(struct tx *tx, int64_t id)
{
    enum err err = DB_EXECUTE(tx->db, "UPDATE sets SET loops = loops - 1 WHERE id = $1", v_int(id));
    return err == OK ? DB_EXECUTE(tx->db, "DELETE FROM sets WHERE id = $1 AND loops = 0", v_int(id)) : err;
}

/* --- slots -------------------------------------------------------------------------------- */

/* While something that keeps loops from running is on its way to them none gets a slot. */
static bool is_open(const struct set *set)
{
    return !set->paused && (!set->acting || set->acting == SET_RESUME);
}

static bool has_free(const struct set *set)
{
    return is_open(set) && set->used < set->slots;
}

static enum err count(struct tx *tx, struct set *set, int used, int waiting)
{
    set->used += used;
    set->waiting += waiting;
    return DB_EXECUTE(tx->db, "UPDATE sets SET used = used + $2, waiting = waiting + $3 WHERE id = $1",
                      v_int(set->id), v_int(used), v_int(waiting));
}

/* The lowest that nobody holds. */
static enum err free_slot(struct tx *tx, const struct set *set, int64_t *slot)
{
    struct db_stmt *stmt = DB_QUERY(
        tx->db, "SELECT slot FROM loops WHERE set_id = $1 AND slot IS NOT NULL ORDER BY slot", v_int(set->id));
    if (!stmt)
        return ERR_DB;
    bool row;
    enum err err;
    *slot = 0;
    while ((err = db_step(stmt, &row)) == OK && row && db_int(stmt, 0) == *slot)
        ++*slot;
    db_reset(stmt);
    return err;
}

static enum err begin_with(struct tx *tx, struct loop *loop, int64_t slot, int64_t run_at)
{
    loop->slot = slot;
    loop->slot_since = tx->now;
    loop->ticket = loop->due_at = 0;
    return loop_begin(tx, loop, run_at);
}

static enum err wait_in_line(struct tx *tx, struct set *set, struct loop *loop)
{
    enum err err =
        DB_NUMBER(tx->db, &loop->ticket, 0,
                  "UPDATE sets SET tickets = tickets + 1 WHERE id = $1 RETURNING tickets", v_int(set->id));
    return err == OK ? count(tx, set, 0, 1) : err;
}

/* The first in line begins, with that slot. *found: there was one. */
static enum err begin_first(struct tx *tx, struct set *set, int64_t slot, bool *found)
{
    struct loop loop;
    int64_t id;
    enum err err = DB_NUMBER(
        tx->db, &id, 0, "SELECT id FROM loops WHERE set_id = $1 AND ticket IS NOT NULL ORDER BY ticket LIMIT 1",
        v_int(set->id));
    *found = err == OK && id;
    if (!*found)
        return err;
    err = loop_read(tx, id, &loop);
    if (err == OK)
        err = begin_with(tx, &loop, slot, 0);
    if (err == OK)
        err = loop_write_turn(tx, &loop);
    return err == OK ? loop_write_state(tx, &loop) : err;
}

/* What the loop has, a slot or a place in line, it has no longer; the next one gets the slot. */
static enum err give_back(struct tx *tx, struct set *set, struct loop *loop)
{
    int64_t slot = loop->slot;
    bool waited = loop->ticket, found = false;
    loop->slot = -1;
    loop->slot_since = loop->ticket = loop->due_at = 0;
    enum err err = loop_write_state(tx, loop); /* before another has its number */
    if (err == OK && waited)
        err = count(tx, set, 0, -1);
    if (err != OK || slot < 0)
        return err;
    if (is_open(set) && set->used <= set->slots)
        err = begin_first(tx, set, slot, &found);
    return err == OK ? count(tx, set, found ? 0 : -1, found ? -1 : 0) : err;
}

static enum err take(struct tx *tx, struct set *set, struct loop *loop)
{
    int64_t slot;
    if (!has_free(set) || set->waiting)
        return wait_in_line(tx, set, loop);
    enum err err = free_slot(tx, set, &slot);
    if (err == OK)
        err = begin_with(tx, loop, slot, 0);
    return err == OK ? count(tx, set, 1, 0) : err;
}

/* Without a slot: it rests until its time, or wants one. */
static enum err wants_slot(struct tx *tx, struct set *set, struct loop *loop, int64_t run_at)
{
    enum err err = OK;
    if (run_at > tx->now)
        loop->due_at = run_at;
    else
        err = take(tx, set, loop);
    return err == OK ? loop_write_state(tx, loop) : err;
}

/* It has a slot, and its turn has ended: by turns it keeps that only if nobody waits and
 * it wants to go on at once. */
static enum err goes_on(struct tx *tx, struct set *set, struct loop *loop, int64_t run_at)
{
    bool keeps = set->by_turn ? !set->waiting && run_at <= tx->now : true;
    if (keeps && is_open(set) && set->used <= set->slots)
        return loop_begin(tx, loop, run_at);
    enum err err = give_back(tx, set, loop);
    return err == OK ? wants_slot(tx, set, loop, run_at) : err;
}

static enum err begin_acting(struct tx *tx, struct set *set, enum set_alter what)
{
    set->acting = what;
    set->reached = 0;
    return DB_EXECUTE(tx->db, "UPDATE sets SET action = $2, reached = 0 WHERE id = $1", v_int(set->id),
                      v_int(what));
}

/* The others are cancelled, in steps. */
static enum err fail_all(struct tx *tx, struct set *set)
{
    if (set->acting == SET_CANCEL)
        return OK;
    enum err err = begin_acting(tx, set, SET_CANCEL);
    return err == OK ? note_follow_up(tx, set, FOLLOW_UP_SET) : err;
}

enum err set_settle(struct tx *tx, struct loop *loop, int64_t run_at)
{
    struct set set;
    enum err err = set_read(tx, loop->set, &set);
    if (err != OK)
        return err == ERR_NOT_FOUND ? ERR_DB : err;
    if (loop->status == LOOP_ACTIVE)
        return loop->slot >= 0 ? goes_on(tx, &set, loop, run_at)
               : loop->ticket  ? OK
                               : wants_slot(tx, &set, loop, run_at);
    if (loop->status == LOOP_FAILED && set.fail_fast)
        err = fail_all(tx, &set);
    return err == OK ? give_back(tx, &set, loop) : err;
}

/* --- in steps --------------------------------------------------------------------------------- */

enum err set_fill_slots(struct tx *tx, int64_t id, struct follow_up_room *room, bool *left)
{
    struct set set;
    enum err err = set_read(tx, id, &set);
    bool found = true;
    *left = false;
    if (err != OK)
        return err == ERR_NOT_FOUND ? OK : err;
    while (err == OK && found && has_free(&set) && set.waiting) {
        int64_t slot;
        *left = room->rows <= 0;
        if (*left)
            return OK;
        room->rows -= ROWS_A_LOOP;
        err = free_slot(tx, &set, &slot);
        if (err == OK)
            err = begin_first(tx, &set, slot, &found);
        if (err == OK && found)
            err = count(tx, &set, 1, -1);
    }
    return err;
}

/* What is in the way of one is its own affair. A set is resumed with those that were paused. */
static enum err act_on(struct tx *tx, enum set_alter what, int64_t id)
{
    static const enum loop_alter alters[] = {
        [SET_PAUSE] = LOOP_PAUSE, [SET_RESUME] = LOOP_RESUME, [SET_STOP] = LOOP_STOP, [SET_CANCEL] = LOOP_CANCEL};
    enum loop_status was;
    int64_t status = LOOP_PAUSED;
    enum err err = OK;
    if (what == SET_RESUME)
        err = DB_NUMBER(tx->db, &status, 0, "SELECT status FROM loops WHERE id = $1", v_int(id));
    if (err == OK && status == LOOP_PAUSED)
        err = loop_alter_one(tx, alters[what], id, &was);
    return err_is_fault(err) ? err : OK;
}

static enum err end_acting(struct tx *tx, const struct set *set)
{
    enum err err =
        DB_EXECUTE(tx->db, "UPDATE sets SET action = NULL, reached = NULL WHERE id = $1", v_int(set->id));
    return err == OK ? note_follow_up(tx, set, FOLLOW_UP_SLOTS) : err;
}

enum err set_act_on_rest(struct tx *tx, int64_t id, struct follow_up_room *room, bool *left)
{
    struct set set;
    enum err err = set_read(tx, id, &set);
    *left = false;
    if (err != OK || !set.acting)
        return err == ERR_NOT_FOUND ? OK : err;
    while (err == OK) {
        int64_t loop;
        err = DB_NUMBER(tx->db, &loop, 0, "SELECT id FROM loops WHERE set_id = $1 AND id > $2 ORDER BY id LIMIT 1",
                        v_int(id), v_int(set.reached));
        if (err != OK || !loop)
            break;
        *left = room->rows <= 0;
        if (*left)
            break;
        room->rows -= ROWS_A_LOOP;
        set.reached = loop;
        err = act_on(tx, set.acting, loop);
    }
    if (err == OK && *left)
        return DB_EXECUTE(tx->db, "UPDATE sets SET reached = $2 WHERE id = $1", v_int(id), v_int(set.reached));
    return err == OK ? end_acting(tx, &set) : err;
}

/* --- what a client asks ------------------------------------------------------------------------ */

static enum err patch(struct tx *tx, const struct op_set_alter *op, const struct set *set)
{
    enum err err = DB_EXECUTE(tx->db, "UPDATE sets SET slots = $2, by_turn = $3, fail_fast = $4 WHERE id = $1",
                              v_int(set->id), v_int(op->patch.slots ? op->patch.slots : set->slots),
                              v_int(op->patch.says_slot ? op->patch.by_turn : set->by_turn),
                              v_int(op->patch.says_fail_fast ? op->patch.fail_fast : set->fail_fast));
    return err == OK ? note_follow_up(tx, set, FOLLOW_UP_SLOTS) : err;
}

static enum err act(struct tx *tx, struct op_set_alter *op, struct set *set)
{
    struct follow_up_room room = {.rows = FOLLOW_UP_ROWS, .bytes = FOLLOW_UP_BYTES};
    enum err err = begin_acting(tx, set, op->what);
    if (err == OK && (op->what == SET_PAUSE || op->what == SET_RESUME))
        err = DB_EXECUTE(tx->db, "UPDATE sets SET paused = $2 WHERE id = $1", v_int(set->id),
                         v_int(op->what == SET_PAUSE));
    if (err == OK)
        err = set_act_on_rest(tx, set->id, &room, &op->left);
    return err == OK && op->left ? note_follow_up(tx, set, FOLLOW_UP_SET) : err;
}

static enum err apply_alter(struct tx *tx, struct op *base)
{
    struct op_set_alter *op = (struct op_set_alter *)base;
    struct set set;
    op->left = false;
    enum err err = set_find(tx, op->name, &set);
    if (err != OK)
        return err;
    return op->what == SET_PATCH ? patch(tx, op, &set) : act(tx, op, &set);
}

void op_set_alter_init(struct op_set_alter *op, enum set_alter what, struct span name)
{
    static const struct op_class class = {.name = "set_alter", .apply = apply_alter, .several = op_is_several};
    *op = (struct op_set_alter){.what = what, .name = name};
    op_init(&op->op, &class);
}
