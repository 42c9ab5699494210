#include "store/reader.h"
#include "store/set.h"

#define VIEW_COLUMNS "id, name, slots, by_turn, fail_fast, paused, loops, used, waiting, action"

static struct set_view view_of(struct db_stmt *stmt)
{
    return (struct set_view){
        .id = db_int(stmt, 0),
        .name = db_span(stmt, 1),
        .slots = (int)db_int(stmt, 2),
        .by_turn = db_int(stmt, 3),
        .fail_fast = db_int(stmt, 4),
        .paused = db_int(stmt, 5),
        .loops = db_int(stmt, 6),
        .used = db_int(stmt, 7),
        .waiting = db_int(stmt, 8),
        .acting = (enum set_alter)db_int(stmt, 9),
    };
}

enum err reader_set(struct reader *reader, struct span name, struct set_view *out)
{
    struct db_stmt *stmt = DB_QUERY(reader->db, "SELECT " VIEW_COLUMNS " FROM sets WHERE name = $1", v_text(name));
    if (!stmt)
        return ERR_DB;
    enum err err = db_step_found(stmt);
    if (err == OK)
        *out = view_of(stmt);
    out->name = name;
    db_reset(stmt);
    return err;
}

enum err reader_sets(struct reader *reader, int64_t cursor, int limit, set_fn row, void *context, int64_t *next)
{
    struct db_stmt *stmt =
        DB_QUERY(reader->db, "SELECT " VIEW_COLUMNS " FROM sets WHERE id < $1 ORDER BY id DESC LIMIT $2",
                 v_int(cursor ? cursor : INT64_MAX), v_int((int64_t)limit + 1));
    if (!stmt)
        return ERR_DB;
    bool found;
    enum err err;
    *next = 0;
    while ((err = db_step(stmt, &found)) == OK && found) {
        struct set_view view = view_of(stmt);
        if (limit-- == 0 || !row(context, &view)) {
            *next = view.id + 1;
            break;
        }
    }
    db_reset(stmt);
    return err;
}

enum err reader_set_slots(struct reader *reader, int64_t set,
                          void (*row)(void *context, const struct set_slot *row), void *context)
{
    struct db_stmt *stmt = DB_QUERY(reader->db,
                                    "SELECT slot, id, invocation, slot_since FROM loops WHERE set_id = $1 "
                                    "AND slot IS NOT NULL ORDER BY slot",
                                    v_int(set));
    if (!stmt)
        return ERR_DB;
    bool found;
    enum err err;
    while ((err = db_step(stmt, &found)) == OK && found) {
        struct set_slot slot = {db_int(stmt, 0), db_int(stmt, 1), db_int(stmt, 2), db_int(stmt, 3)};
        row(context, &slot);
    }
    db_reset(stmt);
    return err;
}
