/* What is said of parents, children and waits. */
#include "tests/e2e/support.h"

#include <stdlib.h>
#include <string.h>

SUITE(children);

static int items(struct reply *r)
{
    return cJSON_GetArraySize(field(EXPECT(r, 200), "items"));
}

#define CONFIG                                   \
    "slots: 8\n"                                 \
    "tasks:\n"                                   \
    "  echo: {kind: native, module: $NATIVE}\n"  \
    "  hold: {kind: native, module: $NATIVE}\n"  \
    "  waits: {kind: native, module: $NATIVE}\n" \
    "  far: {kind: remote}\n"                    \
    "  tree: {kind: native, module: $NATIVE}\n"

/* A parent that waits for a child that holds until the file is there. */
static char *parent_of(struct server *s, const char *file)
{
    char *id = submit(s, "{'task': 'waits', 'args': {'child': {'task': 'hold', 'args': '%s', 'step': 'left'}}}",
                      file_in(s, file));
    AWAIT_STATUS(s, id, "waiting");
    return id;
}

Test(children, a_child_says_whose_it_is_and_who_waits_says_for_whom)
{
    struct server *s = serve(CONFIG);
    char *parent = parent_of(s, "go");
    struct reply *list = EXPECT(get(s, "/invocations/%s/children", parent), 200);
    EXPECT_TEXT(EXPECT_TEXT(list, "items.0.parent", parent), "items.0.step", "left");
    cr_expect_eq(items(list), 1);
    EXPECT_NULL(list, "next");
    char *child = strdup(text_of(list, "items.0.id"));
    cr_expect(!strstr(list->body, "waiting_for"), "the basic view has none: %s", list->body);
    struct reply *shown = EXPECT(get(s, "/invocations/%s", parent), 200);
    EXPECT_NULL(EXPECT_NULL(EXPECT_TEXT(shown, "waiting_for.0", child), "parent"), "step");
    EXPECT_NULL(EXPECT_TEXT(get(s, "/invocations/%s", child), "parent", parent), "waiting_for");
    EXPECT_TEXT(get(s, "/invocations?view=full&status=waiting"), "items.0.waiting_for.0", child);
    touch(file_in(s, "go"));
    EXPECT_NULL(final(s, parent), "waiting_for");
    EXPECT_TEXT(EXPECT_TEXT(final(s, child), "parent", parent), "step", "left");
}

Test(children, are_listed_filtered_and_cancelled_by_their_parent)
{
    struct server *s = serve(CONFIG);
    char *parent = parent_of(s, "a"), *other = parent_of(s, "b");
    static const struct {
        const char *query;
        int count;
    } rows[] = {
        {"", 1},           {"&status=running", 1}, {"&status=queued", 0}, {"&task=hold", 1},
        {"&task=echo", 0}, {"&order=oldest", 1},   {"&view=full", 1},     {"&worker=nobody", 0},
        {"&key=k", 0},     {"&limit=1000", 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct reply *r = get(s, "/invocations?parent=%s%s", parent, rows[i].query);
        cr_expect_eq(items(r), rows[i].count, "%s: %s", rows[i].query, r->body);
        struct reply *same = EXPECT(get(s, "/invocations/%s/children?%s", parent, rows[i].query + (i > 0)), 200);
        cr_expect_str_eq(same->body, r->body);
    }
    cr_expect_eq(items(get(s, "/invocations?parent=0123456789ABC")), 0);
    cr_expect_eq(items(get(s, "/invocations?parent=0000000000000")), 0);
    EXPECT_PROBLEM(get(s, "/invocations?parent=me"), 400, "invalid-query");
    EXPECT_PROBLEM(get(s, "/invocations/%s/children?parent=%s", parent, parent), 400, "invalid-query");
    EXPECT_PROBLEM(get(s, "/invocations/0123456789ABC/children"), 404, "not-found");
    EXPECT_PROBLEM(get(s, "/invocations/0000000000000/children"), 404, "not-found");
    EXPECT_PROBLEM(post(s, "/invocations/cancel", "{'filter': {'parent': 'me'}}"), 422, "invalid-request");
    struct reply *r = EXPECT(post(s, "/invocations/cancel", "{'filter': {'parent': '%s'}}", parent), 200);
    EXPECT_NUMBER(r, "matched", 1);
    EXPECT_TEXT(final(s, parent), "result.status", "cancelled");
    EXPECT_TEXT(get(s, "/invocations/%s", other), "status", "waiting");
    touch(file_in(s, "b"));
    final(s, other);
}

Test(children, pages_of_a_tree_say_where_they_go_on)
{
    struct server *s = serve(CONFIG);
    char *top = submit(s, "{'task': 'tree', 'args': {'depth': 3}}");
    final(s, top);
    struct reply *r = EXPECT(get(s, "/invocations/%s/children?limit=1", top), 200);
    char *link = header(r, "Link");
    REQUIRE(link && strstr(link, format("</invocations/%s/children?limit=1&cursor=", top)), "%s", r->head);
    char *first = strdup(text_of(r, "items.0.id"));
    r = EXPECT(get(s, "/invocations/%s/children?limit=1&cursor=%s", top, text_of(r, "next")), 200);
    cr_expect_str_neq(text_of(r, "items.0.id"), first);
    EXPECT_NULL(EXPECT_TEXT(r, "items.0.parent", top), "next");
}
