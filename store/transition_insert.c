/* The rows of new invocations: one by one, and many at a time, because half of what an
 * insert costs is its statement (callgrind, sixteen rows a commit: 54,100 instructions for an
 * insert and its end, 39,400 with sixteen rows a statement). */
#include "store/transition.h"

#include "store/arguments.h"
#include "store/cached.h"
#include "store/deadline.h"
#include "store/followers.h"
#include "store/holds.h"
#include "store/internal.h"

#define INSERT_COLUMNS                                                                                 \
    "INSERT INTO invocations (id, task, status, priority, attempt, max_retries, retention_ms, flags, " \
    "timeout_ms, run_at, expires_at, args, labels, follow, grp, member"
#define INSERT_VALUES "$1, $2, $3, $4, 0, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15"
enum { INSERT_WIDTH = 15 };

static bool args_are_outside(const struct submission *s)
{
    return s->args.len > INLINE_MAX;
}

static int flags_of(const struct submission *s)
{
    return (args_are_outside(s) ? FLAG_ARGS_OUTSIDE : 0) | (s->parent ? FLAG_CHILD : 0) |
           (s->particulars ? FLAG_PARTICULAR : 0) | (s->composed ? FLAG_COMPOSED : 0) |
           (s->status == STATUS_HELD && hold_has_row(s) ? FLAG_HOLDS : 0) | (s->name.p ? FLAG_NAMED : 0);
}

static void insert_values(const struct submission *s, struct db_value out[INSERT_WIDTH])
{
    bool outside = args_are_outside(s);
    const struct db_value values[INSERT_WIDTH] = {
        v_int(s->id),
        v_int(s->task),
        v_int(s->status),
        v_int(s->priority),
        v_int(s->max_retries),
        v_int(s->retention_ms),
        v_int(flags_of(s)),
        v_time(s->timeout_ms),
        v_time(s->run_at),
        v_time(s->expires_at),
        v_text(outside ? (struct span){NULL, 0} : s->args),
        v_text(s->labels),
        v_int(hold_is_dependent(s) ? FOLLOW_DEPENDENT : 0),
        v_time(s->group),
        s->group ? v_int(s->index) : (struct db_value){DB_NULL, {0}},
    };
    memcpy(out, values, sizeof values);
}

/* Texts of their own, because a key costs every submission that has none. */
static enum err insert_row(struct tx *tx, const struct submission *s)
{
    struct db_value values[INSERT_WIDTH + 3];
    insert_values(s, values);
    if (!s->key.p)
        return db_execute(tx->db, INSERT_COLUMNS ") VALUES (" INSERT_VALUES ")", values, INSERT_WIDTH);
    values[INSERT_WIDTH] = v_text(key_owner(s->key_owner));
    values[INSERT_WIDTH + 1] = v_text(s->key);
    values[INSERT_WIDTH + 2] = v_blob((struct span){(const char *)s->key_digest, sizeof s->key_digest});
    return db_execute(
        tx->db,
        INSERT_COLUMNS
        ", key_owner, key, key_digest) SELECT " INSERT_VALUES ", $16, $17, $18 "
        "WHERE NOT EXISTS (SELECT 1 FROM further_keys k JOIN invocations i ON i.id = k.id "
        "WHERE k.key_owner = $16 AND k.key = $17) ON CONFLICT (key_owner, key) WHERE key IS NOT NULL DO NOTHING",
        values, INSERT_WIDTH + 3);
}

/* What follows a new row. */
static enum err inserted(struct tx *tx, const struct submission *s)
{
    struct transition t = {.id = s->id, .task = s->task, .group = s->group, .to = s->status};
    t.note.expires_at = s->expires_at;
    t.note.deadline_at = s->particulars ? s->particulars->deadline_at : 0;
    if (s->status == STATUS_HELD)
        t.note.release_by = s->release_by;
    else if (s->status == STATUS_SCHEDULED)
        t.note.due_at = s->run_at;
    else if (status_is_final(s->status))
        t.note.prune_at = tx->now + s->retention_ms;
    else
        t.note.ready = (struct ready){
            .id = s->id,
            .task = s->task,
            .priority = s->priority,
            .rank = s->id,
            .max_retries = s->max_retries,
            .timeout_ms = s->timeout_ms,
            .retention_ms = s->retention_ms,
            .expires_at = s->expires_at,
            .group = s->group,
            .flags = (unsigned)flags_of(s),
            .has_deadline = s->particulars && s->particulars->deadline_at,
            .args = args_are_outside(s) || s->composed ? (struct span){NULL, 0}
                    : s->args.p                        ? s->args
                                                       : SPAN(""),
        };
    return followers_after(tx, &t);
}

/* What its start and its end have to look at. */
static enum err note_follow(struct tx *tx, const struct submission *s)
{
    bool keeps = s->particulars->cached.for_ms && !s->particulars->cached.source;
    int follow = (s->particulars->unique.scope ? FOLLOW_UNIQUE : 0) | (keeps ? FOLLOW_CACHED : 0);
    return follow ? DB_EXECUTE(tx->db, "UPDATE invocations SET follow = follow | $2 WHERE id = $1", v_int(s->id),
                               v_int(follow))
                  : OK;
}

/* It is final already, with what another gave. */
static enum err take_result(struct tx *tx, const struct submission *s)
{
    const struct cached *cached = &s->particulars->cached;
    struct span result = cached->has_result ? buf_span(&cached->result) : (struct span){NULL, 0};
    bool outside = result.len > INLINE_MAX;
    enum err err = DB_EXECUTE(tx->db,
                              "UPDATE invocations SET finished_at = $2, prune_at = CASE WHEN grp IS NULL THEN $2 "
                              "+ retention_ms END, result = $3, "
                              "flags = flags | $4 WHERE id = $1",
                              v_int(s->id), v_int(tx->now), v_text(outside ? (struct span){NULL, 0} : result),
                              v_int(outside ? FLAG_RESULT_OUTSIDE : 0));
    return err == OK && outside ? insert_payload(tx, s->id, PAYLOAD_RESULT, result) : err;
}

static enum err write_particulars(struct tx *tx, const struct submission *s)
{
    enum err err = note_follow(tx, s);
    if (err == OK && s->particulars->cached.for_ms)
        err = cached_note(tx, s);
    if (err == OK && s->particulars->deadline_at && !status_is_final(s->status))
        err = deadline_note(tx, s);
    if (err == OK)
        err = arguments_note(tx, s);
    return err == OK && s->particulars->cached.source ? take_result(tx, s) : err;
}

enum err transition_insert(struct tx *tx, const struct submission *s, bool *taken)
{
    enum err err = insert_row(tx, s);
    *taken = err == OK && s->key.p && db_changes(tx->db) == 0;
    if (err != OK || *taken)
        return err;
    if (s->particulars)
        err = write_particulars(tx, s);
    if (err == OK && args_are_outside(s))
        err = insert_payload(tx, s->id, PAYLOAD_ARGS, s->args);
    return err == OK ? inserted(tx, s) : err;
}

enum err transition_mark_iteration(struct tx *tx, int64_t id, int64_t inbox_read)
{
    return DB_EXECUTE(tx->db,
                      "UPDATE invocations SET follow = follow | " SQL_FOLLOW_LOOP
                      ", flags = flags | " SQL_FLAG_LOOP ", inbox_read = $2 WHERE id = $1",
                      v_int(id), v_time(inbox_read));
}

/* --- many ---------------------------------------------------------------------- */

/* How many one statement inserts, and their texts, made once. */
static const int sizes[] = {TRANSITION_INSERT_MAX, 4};
enum { SIZES = sizeof sizes / sizeof *sizes };
static char *texts[SIZES];

static void make_texts(void)
{
    for (int i = 0; i < SIZES; i++) {
        struct buf text = {0};
        buf_adds(&text, INSERT_COLUMNS ") VALUES ");
        for (int row = 0; row < sizes[i]; row++) {
            buf_adds(&text, row ? ", (" : "(");
            for (int k = 1; k <= INSERT_WIDTH; k++)
                buf_addf(&text, "%s$%d%s", k > 1 ? ", " : "", row * INSERT_WIDTH + k, k == 4 ? ", 0" : "");
            buf_addc(&text, ')');
        }
        texts[i] = buf_take(&text);
    }
}

bool transition_insert_is_plain(const struct submission *s)
{
    return !s->key.p && !s->parent && !s->labels.p && !s->name.p && !s->callback.p && !s->particulars &&
           !args_are_outside(s) && (s->preset_id ? !hold_has_row(s) : !s->group && !hold_is_wanted(s));
}

int transition_insert_together(int count)
{
    for (int i = 0; i < SIZES; i++)
        if (sizes[i] <= count)
            return sizes[i];
    return 0;
}

enum err transition_insert_rows(struct tx *tx, struct submission *const *rows, int count)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct db_value values[TRANSITION_INSERT_MAX * INSERT_WIDTH];
    int size = 0;
    pthread_once(&once, make_texts);
    while (sizes[size] != count)
        size++;
    for (int i = 0; i < count; i++)
        insert_values(rows[i], values + i * INSERT_WIDTH);
    enum err err = db_execute(tx->db, texts[size], values, count * INSERT_WIDTH);
    for (int i = 0; i < count && err == OK; i++)
        err = inserted(tx, rows[i]);
    return err;
}
