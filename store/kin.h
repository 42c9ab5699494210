/* Who descends from whom, as a reader sees it. A loop is what its iterations descend from.
 *
 * A row that was removed takes its place in the family with it: what is below
 * it is cut off from what is above. */
#pragma once

#include "store/read.h"

/* Its status alone, of a group, too; ERR_NOT_FOUND. */
MUST_USE enum err reader_status(struct reader *reader, int64_t id, enum status *status);

/* The same of the root of a tree: of a loop, running or as it has ended. */
MUST_USE enum err reader_root_status(struct reader *reader, int64_t id, enum status *status);

/* *parent is 0 if it has none. A group's member has the group's, an iteration its loop. */
MUST_USE enum err reader_parent(struct reader *reader, int64_t id, int64_t *parent);

/* The child, member of the group, or iteration of the loop, after that one (0: the first), in the order in which they were made;
 * 0 if there is none. */
MUST_USE enum err reader_child_after(struct reader *reader, int64_t parent, int64_t after, int64_t *child);

/* Which ids belong to one tree. It remembers what it found, so that children of
 * one parent are one look further. Zeros but for the root. */
enum { KIN_KNOWN = 1024, KIN_DEPTH_MAX = 10000 /* what is deeper below the last one known is none of it */ };
struct kin {
    int64_t root;
    struct {
        int64_t id;
        bool inside;
    } known[KIN_KNOWN];
};

/* Is it the root, or does it descend from it? */
MUST_USE enum err reader_is_kin(struct reader *reader, struct kin *kin, int64_t id, bool *inside);
