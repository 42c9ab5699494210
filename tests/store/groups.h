/* Groups for tests of the store. */
#pragma once

#include "tests/store/support.h"

enum { TEST_MEMBERS_MAX = 1000 };

struct test_group {
    struct test_group *next; /* of all: they live as long as the test's process */
    struct group_submission group;
    struct submission items[TEST_MEMBERS_MAX];
    int64_t ids[TEST_MEMBERS_MAX];
};

/* `count` plain members. */
struct test_group *group_of(struct fixture *f, enum group_mode mode, int count);

/* With one op, or with one for each `part` of them. */
enum err make_group(struct fixture *f, struct test_group *g, int part);
enum err change_group(struct fixture *f, enum group_change what, int64_t id);
struct group_row group_row(struct fixture *f, int64_t id);

/* Does what is noted to follow. */
void follow_all(struct fixture *f);

/* Do the groups' counts say what their members are? */
void check_groups(struct fixture *f);
