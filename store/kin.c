#include "store/kin.h"

#include "store/group.h"
#include "store/loop.h"
#include "store/reader.h"

enum { REMEMBERED_AT_ONCE = 64 };

/* Of a loop. */
static enum err loop_status(struct reader *reader, int64_t id, enum status *status)
{
    static const enum status as[] = {
        [LOOP_ACTIVE] = STATUS_RUNNING,     [LOOP_PAUSED] = STATUS_RUNNING,      [LOOP_STOPPING] = STATUS_RUNNING,
        [LOOP_STOPPED] = STATUS_SUCCEEDED,  [LOOP_SUCCEEDED] = STATUS_SUCCEEDED, [LOOP_FAILED] = STATUS_FAILED,
        [LOOP_CANCELLED] = STATUS_CANCELLED};
    int64_t number;
    enum err err = DB_NUMBER(reader->db, &number, 0, "SELECT status FROM loops WHERE id = $1", v_int(id));
    if (err == OK && number)
        *status = as[number];
    return err == OK && !number ? ERR_NOT_FOUND : err;
}

enum err reader_status(struct reader *reader, int64_t id, enum status *status)
{
    int64_t number;
    enum err err = DB_NUMBER(reader->db, &number, 0, "SELECT status FROM invocations WHERE id = $1", v_int(id));
    struct invocation group = {.status = (enum status)number};
    if (err == OK && !number)
        err = reader_get_awaited(reader, id, VIEW_BASIC, &group);
    *status = group.status;
    return err;
}

enum err reader_root_status(struct reader *reader, int64_t id, enum status *status)
{
    enum err err = reader_status(reader, id, status);
    return err == ERR_NOT_FOUND ? loop_status(reader, id, status) : err;
}

enum err reader_parent(struct reader *reader, int64_t id, int64_t *parent)
{
    return DB_NUMBER(reader->db, parent, 0,
                     "SELECT parent FROM children WHERE id = $1 UNION ALL SELECT c.parent FROM invocations i "
                     "CROSS JOIN children c WHERE i.id = $1 AND i.grp IS NOT NULL AND c.id = i.grp UNION ALL "
                     "SELECT loop FROM iterations WHERE id = $1",
                     v_int(id));
}

enum err reader_child_after(struct reader *reader, int64_t parent, int64_t after, int64_t *child)
{
    return DB_NUMBER(reader->db, child, 0,
                     "SELECT id FROM children WHERE parent = $1 AND id > $2 UNION ALL "
                     "SELECT id FROM members WHERE grp = $1 AND id > $2 UNION ALL "
                     "SELECT id FROM iterations WHERE loop = $1 AND id > $2 ORDER BY id LIMIT 1",
                     v_int(parent), v_int(after));
}

/* Ids of one millisecond differ in their last bits. */
static size_t place_of(int64_t id)
{
    return (size_t)((uint64_t)id * UINT64_C(0x9E3779B97F4A7C15) >> 54) % KIN_KNOWN;
}

static bool recall(const struct kin *kin, int64_t id, bool *inside)
{
    size_t place = place_of(id);
    *inside = kin->known[place].inside;
    return kin->known[place].id == id;
}

static void remember(struct kin *kin, int64_t id, bool inside)
{
    size_t place = place_of(id);
    kin->known[place].id = id;
    kin->known[place].inside = inside;
}

/* Upwards. A parent is older than its children: above one that is older than the
 * root nothing is looked for. */
enum err reader_is_kin(struct reader *reader, struct kin *kin, int64_t id, bool *inside)
{
    int64_t path[REMEMBERED_AT_ONCE];
    int depth = 0;
    enum err err = OK;
    *inside = false;
    for (int64_t at = id; at > kin->root && depth < KIN_DEPTH_MAX; depth++) {
        if (recall(kin, at, inside))
            break;
        if (depth < REMEMBERED_AT_ONCE)
            path[depth] = at;
        err = reader_parent(reader, at, &at);
        if (err != OK)
            return err;
        *inside = at == kin->root;
    }
    *inside |= id == kin->root;
    for (int i = 0; i < depth && i < REMEMBERED_AT_ONCE; i++)
        remember(kin, path[i], *inside);
    return OK;
}
