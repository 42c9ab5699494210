/* Sets of loops: slots that they share. */
#include "tests/e2e/support.h"

#include <stdlib.h>
#include <string.h>

SUITE(sets);

#define CONFIG                                  \
    "tasks:\n"                                  \
    "  far: {kind: remote}\n"                   \
    "  echo: {kind: native, module: $NATIVE}\n" \
    "  hold: {kind: native, module: $NATIVE}\n"

struct turn {
    char *loop, *token;
};

/* What asks for work gets the oldest. */
static struct turn lease(struct server *s)
{
    struct reply *r = EXPECT(post(s, "/leases", "{'worker': 'w', 'wait': '30s', 'lease': '1h'}"), 200);
    REQUIRE(cJSON_GetArraySize(field(r, "leases")) == 1, "%s", r->body);
    return (struct turn){strdup(text_of(r, "leases.0.invocation.loop")), strdup(text_of(r, "leases.0.token"))};
}

static bool nobody_waits(struct server *s)
{
    struct reply *r = EXPECT(post(s, "/leases", "{'worker': 'idle'}"), 200);
    return cJSON_GetArraySize(field(r, "leases")) == 0;
}

static void complete(struct server *s, struct turn turn, const char *result)
{
    EXPECT(post(s, format("/leases/%s/complete", turn.token), "{'result': %s}", quoted(result)), 204);
}

static void give_up(struct server *s, struct turn turn)
{
    EXPECT(post(s, format("/leases/%s/fail", turn.token), "{'error': {'type': 'torn'}}"), 204);
}

static char *make_of(struct server *s, const char *set, const char *more)
{
    struct reply *r =
        EXPECT(post(s, "/loops", "%s", quoted(format("{'task': 'far', 'set': %s%s}", set, more))), 201);
    return strdup(text_of(r, "id"));
}

static char *make(struct server *s, const char *set)
{
    return make_of(s, set, "");
}

static struct reply *loop(struct server *s, const char *id)
{
    return EXPECT(get(s, "/loops/%s", id), 200);
}

static struct reply *order(struct server *s, const char *id, const char *what)
{
    return EXPECT(post(s, format("/loops/%s/%s", id, what), NULL), 200);
}

static struct reply *set(struct server *s, const char *name)
{
    return EXPECT(get(s, "/sets/%s", name), 200);
}

static int listed(struct server *s, const char *query)
{
    return cJSON_GetArraySize(field(EXPECT(get(s, "/loops?%s", query), 200), "items"));
}

/* loops, those that hold a slot, those that wait for one. */
static void expect_set(struct server *s, const char *name, int loops, int held, int waiting)
{
    struct reply *r = set(s, name);
    EXPECT_NUMBER(EXPECT_NUMBER(EXPECT_NUMBER(r, "loops", loops), "held", held), "waiting", waiting);
}

Test(sets, more_loops_than_slots_wait_their_turn_and_none_is_dropped)
{
    struct server *s = serve(CONFIG);
    char *ids[4];
    for (int i = 0; i < 4; i++) {
        ids[i] = make(s, i ? "'pool'" : "{'name': 'pool', 'slots': 2}");
        struct reply *r = EXPECT_TEXT(EXPECT_TEXT(loop(s, ids[i]), "status", "queued"), "set", "pool");
        if (i >= 2)
            EXPECT_NULL(r, "invocation"); /* it has none before it has a slot */
    }
    EXPECT_TEXT(set(s, "pool"), "slot", "loop");
    expect_set(s, "pool", 4, 2, 2);
    struct turn first = lease(s), second = lease(s);
    REQUIRE(!strcmp(first.loop, ids[0]) && !strcmp(second.loop, ids[1]));
    REQUIRE(nobody_waits(s));
    complete(s, first, "1"); /* it holds its slot from its assignment to its end */
    first = lease(s);
    REQUIRE(!strcmp(first.loop, ids[0]));
    restart(s);
    expect_set(s, "pool", 4, 2, 2);
    complete(s, first, "{'stop': true}");
    struct turn third = lease(s);
    REQUIRE(!strcmp(third.loop, ids[2]));
    EXPECT_PROBLEM(post(s, format("/loops/%s/resume", ids[3]), NULL), 409, "conflict");
    order(s, ids[3], "pause"); /* it waits no longer */
    expect_set(s, "pool", 4, 2, 0);
    order(s, ids[1], "pause"); /* its turn goes on, and so it has its slot */
    order(s, ids[3], "resume");
    REQUIRE(nobody_waits(s));
    complete(s, second, "1");
    struct turn fourth = lease(s);
    REQUIRE(!strcmp(fourth.loop, ids[3]));
    order(s, ids[1], "resume");
    EXPECT_NULL(loop(s, ids[1]), "invocation");
    expect_set(s, "pool", 4, 2, 1);
    complete(s, third, "{'stop': true}");
    complete(s, fourth, "{'stop': true}");
    complete(s, lease(s), "{'stop': true}");
    expect_set(s, "pool", 4, 0, 0);
    REQUIRE(nobody_waits(s));
}

Test(sets, by_turns_each_loop_has_a_slot_for_a_turn)
{
    struct server *s = serve(CONFIG);
    char *ids[3];
    for (int i = 0; i < 3; i++)
        ids[i] = make(s, i ? "{'name': 'pool', 'slot': 'turn'}" : "{'name': 'pool', 'slots': 1, 'slot': 'turn'}");
    for (int i = 0; i < 9; i++) {
        struct turn turn = lease(s);
        REQUIRE(!strcmp(turn.loop, ids[i % 3]), "turn %d", i);
        REQUIRE(nobody_waits(s));
        complete(s, turn, "1");
        if (i == 4)
            restart(s);
    }
    for (int i = 0; i < 3; i++)
        EXPECT_NUMBER(loop(s, ids[i]), "iteration", 3);
}

Test(sets, by_turns_a_loop_that_rests_has_no_slot)
{
    struct server *s = serve(CONFIG);
    char *rests = make_of(s, "{'name': 'pool', 'slots': 1, 'slot': 'turn'}", ", 'delay': '300ms'");
    struct turn turn = lease(s);
    complete(s, turn, "1");
    EXPECT_NULL(EXPECT_TEXT(loop(s, rests), "status", "running"), "invocation");
    expect_set(s, "pool", 1, 0, 0);
    char *other = make(s, "'pool'");
    turn = lease(s);
    REQUIRE(!strcmp(turn.loop, other));
    restart(s); /* its time is on disk */
    WAIT_UNTIL(number_of(set(s, "pool"), "waiting") == 1);
    complete(s, turn, "1");
    REQUIRE(!strcmp(lease(s).loop, rests));
}

Test(sets, the_first_loop_that_names_a_set_makes_it_and_others_agree)
{
    struct server *s = serve(CONFIG);
    EXPECT_PROBLEM(post(s, "/loops", "{'task': 'far', 'set': 'pool'}"), 422, "invalid-request");
    EXPECT(get(s, "/sets/pool"), 404);
    EXPECT(post(s, "/sets/pool/pause", NULL), 404);
    make(s, "{'name': 'pool', 'slots': 1, 'fail_fast': true}");
    make(s, "{'name': 'pool', 'slots': 1, 'slot': 'loop', 'fail_fast': true}");
    static const char *const others[] = {"'slots': 2", "'slot': 'turn'", "'fail_fast': false"};
    for (int i = 0; i < 3; i++)
        EXPECT_PROBLEM(post(s, "/loops", "{'task': 'far', 'set': {'name': 'pool', %s}}", quoted(others[i])), 409,
                       "conflict");
    expect_set(s, "pool", 2, 1, 1);
    struct reply *r = EXPECT(patch(s, "/sets/pool", "{'slots': 2, 'fail_fast': false}"), 200);
    EXPECT_NUMBER(EXPECT_TEXT(r, "slot", "loop"), "slots", 2);
    WAIT_UNTIL(number_of(set(s, "pool"), "held") == 2); /* and whoever waits gets what is new */
    EXPECT(patch(s, "/sets/pool", "{'slots': 1}"), 200);
    expect_set(s, "pool", 2, 2, 0);
    char *third = make(s, "'pool'");
    complete(s, lease(s), "{'stop': true}"); /* one too many: nobody gets it */
    expect_set(s, "pool", 3, 1, 1);
    complete(s, lease(s), "{'stop': true}");
    REQUIRE(!strcmp(lease(s).loop, third));
    EXPECT(patch(s, "/sets/pool", "{}"), 422);
    EXPECT(patch(s, "/sets/pool", "{'slots': 0}"), 422);
    EXPECT(patch(s, "/sets/pool", "{'name': 'x'}"), 422);
    EXPECT_TEXT(get(s, "/sets"), "items.0.name", "pool");
    EXPECT(get(s, "/sets?limit=x"), 400);
}

Test(sets, one_failure_cancels_the_others_of_a_set_that_fails_fast)
{
    struct server *s = serve(CONFIG);
    char *ids[4];
    for (int i = 0; i < 4; i++)
        ids[i] = make(s, "{'name': 'pool', 'slots': 2, 'fail_fast': true}");
    order(s, ids[3], "pause");
    struct turn first = lease(s), second = lease(s);
    give_up(s, second);
    for (int i = 0; i < 4; i++)
        WAIT_UNTIL(!strcmp(text_of(loop(s, ids[i]), "status"), i == 1 ? "failed" : "cancelled"));
    REQUIRE(nobody_waits(s)); /* nobody began because a slot was free */
    give_up(s, first);
    WAIT_UNTIL(number_of(set(s, "pool"), "held") == 0);
    char *next = make(s, "'pool'"); /* that was then */
    REQUIRE(!strcmp(lease(s).loop, next));
}

static const struct {
    const char *what, *running, *waiting; /* as they are after it */
} orders[] = {
    {"pause", "paused", "paused"},
    {"stop", "stopping", "stopped"},
    {"cancel", "cancelled", "cancelled"},
};

Test(sets, what_is_asked_of_a_set_is_asked_of_its_loops)
{
    struct server *s = serve(CONFIG);
    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
        char *name = format("'p%zu'", i), *runs = make(s, format("{'name': %s, 'slots': 1}", name));
        char *waits = make(s, name), *stopped = make(s, name);
        order(s, stopped, "stop");
        struct turn turn = lease(s);
        struct reply *r = EXPECT(post(s, format("/sets/p%zu/%s", i, orders[i].what), NULL), 200);
        EXPECT_NULL(r, "acting");
        EXPECT_TEXT(loop(s, runs), "status", orders[i].running);
        EXPECT_TEXT(loop(s, waits), "status", orders[i].waiting);
        EXPECT_TEXT(loop(s, stopped), "status", "stopped");
        complete(s, turn, "1");
        expect_set(s, format("p%zu", i), 3, 0, 0);
        REQUIRE(nobody_waits(s));
    }
}

Test(sets, a_set_that_is_paused_gives_no_slots_and_goes_on_where_it_was)
{
    struct server *s = serve(CONFIG);
    char *first = make(s, "{'name': 'pool', 'slots': 1}"), *second = make(s, "'pool'");
    REQUIRE(cJSON_IsTrue(field(EXPECT(post(s, "/sets/pool/pause", NULL), 200), "paused")));
    char *third = make(s, "'pool'");
    order(s, second, "resume");
    restart(s);
    REQUIRE(nobody_waits(s));
    EXPECT_TEXT(loop(s, third), "status", "queued");
    REQUIRE(cJSON_IsFalse(field(EXPECT(post(s, "/sets/pool/resume", NULL), 200), "paused")));
    char *seen = strdup("");
    for (int i = 0; i < 3; i++) {
        struct turn turn = lease(s);
        seen = format("%s %s", seen, turn.loop);
        complete(s, turn, "{'stop': true}");
    }
    REQUIRE(strstr(seen, first) && strstr(seen, second) && strstr(seen, third), "%s", seen);
}

/* What has no bound is done in steps, and goes on after a crash. */
Test(sets, many_loops_are_reached_in_durable_steps)
{
    struct server *s = serve(CONFIG);
    enum { MANY = 700 };
    struct client *client = client_open(s);
    char *body = quoted("{'task': 'far', 'set': {'name': 'pool', 'slots': 300}}");
    for (int i = 0; i < MANY; i++) {
        client_ask(client, "POST", "/loops", "Content-Type: application/json\r\n", body, strlen(body));
        EXPECT(client_receive(client, false), 201);
    }
    expect_set(s, "pool", MANY, 300, 400);
    struct reply *r = EXPECT(post(s, "/sets/pool/cancel", NULL), 202);
    EXPECT_TEXT(r, "acting", "cancel");
    restart(s);
    WAIT_UNTIL(listed(s, "status=cancelled&limit=1000") == MANY);
    WAIT_UNTIL(!cJSON_IsString(field(set(s, "pool"), "acting")));
    expect_set(s, "pool", MANY, 0, 0);
    REQUIRE(nobody_waits(s));
}

Test(sets, slots_show_who_holds_what)
{
    struct server *s = serve("slots: 2\n" CONFIG);
    char *id = make(s, "{'name': 'pool', 'slots': 2}");
    struct turn turn = lease(s);
    struct reply *local = EXPECT(post(s, "/loops", "{'task': 'hold', 'args': '%s'}", file_in(s, "go")), 201);
    char *holds = strdup(text_of(local, "id"));
    WAIT_UNTIL(!strcmp(text_of(get(s, "/slots"), "items.0.loop"), holds) ||
               !strcmp(text_of(get(s, "/slots"), "items.1.loop"), holds));
    struct reply *r = EXPECT(get(s, "/slots"), 200);
    REQUIRE(cJSON_GetArraySize(field(r, "items")) == 4, "%s", r->body);
    EXPECT_NULL(EXPECT_TEXT(r, "items.0.runner", "local"), "items.0.set");
    EXPECT_NULL(EXPECT_TEXT(EXPECT_NUMBER(r, "items.2.slot", 0), "items.2.set", "pool"), "items.2.runner");
    EXPECT_TEXT(EXPECT_TEXT(r, "items.2.loop", id), "items.2.invocation", text_of(loop(s, id), "invocation"));
    EXPECT_NULL(EXPECT_NULL(EXPECT_NUMBER(r, "items.3.slot", 1), "items.3.loop"), "items.3.since");
    REQUIRE(*text_of(r, "items.2.since"));
    order(s, holds, "stop");
    touch(file_in(s, "go"));
    complete(s, turn, "1");
}

Test(sets, a_set_goes_with_its_last_loop)
{
    struct server *s = serve(CONFIG);
    char *first = make(s, "{'name': 'pool', 'slots': 1}"), *second = make(s, "'pool'");
    EXPECT(post(s, "/sets/pool/cancel", NULL), 200);
    EXPECT(ask(s, "DELETE", format("/loops/%s", first), NULL, NULL), 204);
    EXPECT(get(s, "/sets/pool"), 200);
    EXPECT(ask(s, "DELETE", format("/loops/%s", second), NULL, NULL), 204);
    EXPECT(get(s, "/sets/pool"), 404);
    REQUIRE(cJSON_GetArraySize(field(get(s, "/sets"), "items")) == 0);
}

Test(sets, local_loops_are_never_more_than_their_slots)
{
    struct server *s = serve("slots: 4\n" CONFIG);
    for (int i = 0; i < 6; i++)
        EXPECT(post(s, "/loops",
                    "{'task': 'echo', 'max_iterations': 60, 'set': {'name': 'pool', 'slots': 2, "
                    "'slot': '%s'}}",
                    "turn"),
               201);
    while (listed(s, "status=succeeded") < 6) {
        struct reply *r = set(s, "pool");
        REQUIRE(number_of(r, "held") <= 2, "%s", r->body);
        int busy = 0;
        const cJSON *item;
        cJSON_ArrayForEach(item, field(get(s, "/slots"), "items")) busy +=
            cJSON_IsString(cJSON_GetObjectItem(item, "set")) && cJSON_IsString(cJSON_GetObjectItem(item, "loop"));
        REQUIRE(busy <= 2);
    }
    expect_set(s, "pool", 6, 0, 0);
    const cJSON *item;
    cJSON_ArrayForEach(item, field(get(s, "/loops"), "items"))
        REQUIRE(cJSON_GetObjectItem(item, "iteration")->valueint == 60);
}
