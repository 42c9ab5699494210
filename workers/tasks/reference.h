/* What stands in arguments for another invocation's result:
 *
 *     {"$result": true}                          that of the one it comes after
 *     {"$result": "NAME"}                        that of a member of its graph
 *     {"$result": "ID"}                          that of one of its `after`
 *     {"$result": "NAME", "path": "user.ids.0"}  a part of it
 *
 * Pure; reads text that passed json_check(). Threads: no shared state. */
#pragma once

#include "base/buf.h"
#include "base/faults.h"

enum {
    REFERENCE_NAME_MAX = 255, /* bytes */
    REFERENCE_PATH_MAX = 255, /* bytes */
    REFERENCE_PARTS_MAX = 64, /* of a path */
};

/* Can one stand in it? False is sure, and quick. */
bool reference_maybe(struct span value);

/* Is this trimmed value one: an object with the member `$result`? */
bool reference_is(struct span value);

/* Is it one, or does one stand in it? */
bool reference_within(struct span value);

struct reference {
    struct span text;    /* the object */
    const char *pointer; /* where it stands */
    int depth;           /* in how many objects and arrays */
    struct span name;    /* of the outermost object's member in which it stands, unescaped; absent: it has none */
    struct span whose;   /* a name or an id; absent: `true` */
    struct span path;    /* absent: the whole result */
};

/* Reads one: not its depth and name. What it says is unescaped and appended to `scratch`, where the last two
 * spans point. False with every fault added. */
bool reference_read(struct span value, const char *pointer, struct buf *scratch, struct reference *out,
                    struct faults *faults);

/* What stands there: of an object the member of that very name, else member by member at each dot
 * (the shorter name first); of an array the element of that number, from 0. Absent if there is none. */
struct span reference_at(struct span value, struct span path);
