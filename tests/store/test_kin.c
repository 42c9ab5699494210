/* Who descends from whom: trees, and their messages. */
#include "tests/store/support.h"

#include <stdlib.h>

/* A child of a turn that runs, and its own turn. */
static void child_of(struct fixture *f, const struct turn *parent, const char *step, struct waited *w)
{
    struct submission s = plain(f);
    s.parent = parent->id;
    s.parent_lease = parent->lease;
    s.step = span_of(step);
    submit_all(f, &s, 1);
    started(w, f, s.id, 1);
}

static void say(struct fixture *f, const struct turn *turn, const char *body)
{
    struct span text = span_of(body);
    struct op_message_out op;
    op_message_out_init(&op, turn);
    op.bodies = &text;
    op.count = 1;
    IS_OK(store_do(f->store, &op.turn.op));
}

static bool add_body(void *context, const struct message *message)
{
    buf_add_span(context, message->body);
    return true;
}

static void tree_says(struct fixture *f, int64_t root, const char *expected)
{
    struct kin kin = {.root = root};
    for (int again = 0; again < 2; again++) {
        struct message_query query = {.among = &kin, .limit = 100};
        struct buf said = {0};
        bool more;
        IS_OK(reader_messages(f->reader, &query, add_body, &said, &more));
        IS_SPAN(buf_span(&said), expected);
        cr_expect(!more);
        buf_release(&said);
    }
}

STORE_TEST(a_tree_is_its_root_and_all_that_descend_from_it)
{
    struct waited top, left, right, low, stranger;
    started(&top, f, submit(f), 1);
    started(&stranger, f, submit(f), 1);
    child_of(f, &top.turn, "left", &left);
    child_of(f, &top.turn, "right", &right);
    child_of(f, &left.turn, "low", &low);
    const struct turn *all[] = {&top.turn, &stranger.turn, &left.turn, &right.turn, &low.turn};
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 5; i++)
            say(f, all[i], (const char *[]){"1", "2", "3", "4", "5"}[i]);
    tree_says(f, top.turn.id, "13451345");
    tree_says(f, left.turn.id, "3535");
    tree_says(f, low.turn.id, "55");
    tree_says(f, stranger.turn.id, "22");
}

STORE_TEST(a_page_of_a_tree_says_how_far_it_has_looked)
{
    struct waited top, stranger;
    started(&top, f, submit(f), 1);
    started(&stranger, f, submit(f), 1);
    say(f, &top.turn, "1");
    for (int i = 0; i < 200; i++)
        say(f, &stranger.turn, "2");
    say(f, &top.turn, "3");
    struct kin kin = {.root = top.turn.id};
    struct message_query query = {.among = &kin, .limit = 1, .scan_until_us = 1};
    struct buf said = {0};
    bool more = true;
    int pages = 0;
    for (; more && pages < 10; pages++) { /* its time is over at the first look at the clock */
        int64_t before = query.after_seq;
        IS_OK(reader_messages(f->reader, &query, add_body, &said, &more));
        cr_expect(query.after_seq > before || !more);
    }
    IS_SPAN(buf_span(&said), "13");
    cr_expect(pages > 3 && !more, "%d pages", pages);
    buf_release(&said);
}

STORE_TEST(a_row_shows_its_parent_its_step_and_what_it_waits_for)
{
    struct waited top, left, right;
    started(&top, f, submit(f), 1);
    child_of(f, &top.turn, "left", &left);
    child_of(f, &top.turn, NULL, &right);
    struct op_wait op;
    op_wait_init(&op, &top.turn);
    op.ids = (int64_t[]){right.turn.id, left.turn.id};
    op.count = 2;
    IS_OK(store_do(f->store, &op.turn.op));
    struct invocation row;
    IS_OK(reader_get(f->reader, left.turn.id, VIEW_BASIC, &row));
    cr_expect_eq(row.parent, top.turn.id);
    IS_SPAN(row.step, "left");
    IS_OK(reader_get(f->reader, right.turn.id, VIEW_BASIC, &row));
    cr_expect_eq(row.parent, top.turn.id);
    cr_expect_null(row.step.p);
    IS_OK(reader_get(f->reader, top.turn.id, VIEW_BASIC, &row));
    cr_expect_eq(row.parent, 0);
    cr_expect_eq(row.waiting_for_count, 0);
    IS_OK(reader_get(f->reader, top.turn.id, VIEW_FULL, &row));
    cr_assert_eq(row.waiting_for_count, 2);
    cr_expect(row.waiting_for[0] == left.turn.id && row.waiting_for[1] == right.turn.id);
    IS_OK(end(&left, f, FINISH_FINAL, STATUS_SUCCEEDED));
    IS_OK(reader_get(f->reader, top.turn.id, VIEW_FULL, &row));
    cr_assert_eq(row.waiting_for_count, 1);
    cr_expect_eq(row.waiting_for[0], right.turn.id);
}

static bool count_row(void *context, const struct invocation *row)
{
    (void)row;
    ++*(int *)context;
    return true;
}

STORE_TEST(children_are_listed_by_their_parent_whatever_else_is_asked)
{
    struct waited top, other, children[5];
    started(&top, f, submit(f), 1);
    started(&other, f, submit(f), 1);
    for (int i = 0; i < 5; i++)
        child_of(f, i < 3 ? &top.turn : &other.turn, NULL, &children[i]);
    IS_OK(end(&children[0], f, FINISH_FINAL, STATUS_SUCCEEDED));
    struct submission keyed = plain(f);
    keyed.key_owner = SPAN("");
    keyed.key = SPAN("k");
    keyed.parent = other.turn.id;
    keyed.parent_lease = other.turn.lease;
    submit_all(f, &keyed, 1);
    const struct {
        struct filter filter;
        int count;
    } rows[] = {
        {{.parent = top.turn.id}, 3},
        {{.parent = other.turn.id}, 3},
        {{.parent = children[0].turn.id}, 0},
        {{.parent = top.turn.id, .statuses = 1u << STATUS_RUNNING}, 2},
        {{.parent = top.turn.id, .task = f->other}, 0},
        {{.parent = other.turn.id, .key = SPAN("k")}, 1},
        {{.parent = top.turn.id, .key = SPAN("k")}, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int order = 0; order < 2; order++) {
            struct list_query query = {.filter = rows[i].filter, .limit = 2, .oldest_first = order};
            int64_t next;
            int count = 0;
            do {
                IS_OK(reader_list(f->reader, &query, count_row, &count, &next));
                query.cursor = next;
            } while (next);
            cr_expect_eq(count, rows[i].count, "row %zu: %d", i, count);
        }
}
