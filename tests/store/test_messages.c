/* Messages out of an invocation and into it: numbers that never come twice, an
 * inbox that is read once, keys. */
#include "store/internal.h"
#include "tests/store/support.h"

#include <stdio.h>
#include <stdlib.h>

/* Sends one out of a turn; 0 if it is not expected to be OK. */
static int64_t send_out(struct fixture *f, const struct turn *turn, const char *body, enum err expected)
{
    struct op_message_out op;
    struct span text = span_of(body);
    op_message_out_init(&op, turn);
    op.bodies = &text;
    op.count = 1;
    cr_expect_eq(store_do(f->store, &op.turn.op), expected, "%s", body);
    return expected == OK ? op.first_seq : 0;
}

/* The digest is that of a body of a few characters: itself. */
static struct op_message_in send_keyed(struct fixture *f, int64_t id, const char *body, const char *key,
                                       const char *owner, enum err expected)
{
    struct op_message_in op;
    op_message_in_init(&op, id);
    op.body = span_of(body);
    op.key = span_of(key);
    op.key_owner = span_of(owner);
    memcpy(op.key_digest, body, strnlen(body, sizeof op.key_digest));
    cr_expect_eq(store_do(f->store, &op.op), expected, "%s", body);
    return op;
}

static int64_t send_in(struct fixture *f, int64_t id, const char *body, enum err expected)
{
    return send_keyed(f, id, body, NULL, NULL, expected).seq;
}

static void mark_read(struct fixture *f, const struct turn *turn, int64_t up_to_seq, enum err expected)
{
    struct op_messages_read op;
    op_messages_read_init(&op, turn);
    op.up_to_seq = up_to_seq;
    cr_expect_eq(store_do(f->store, &op.turn.op), expected);
}

struct heard {
    struct buf text;
    int64_t last_seq;
    int left; /* to be taken; -1: all */
};

static bool hear(void *context, const struct message *message)
{
    struct heard *heard = context;
    if (heard->left == 0)
        return false;
    heard->left--;
    cr_expect_gt(message->seq, heard->last_seq, "in order");
    cr_expect_gt(message->at, 0);
    heard->last_seq = message->seq;
    buf_addf(&heard->text, "%s:", message->kind == MESSAGE_IN ? "in" : "out");
    buf_add_span(&heard->text, message->body);
    buf_addc(&heard->text, ' ');
    return true;
}

static void inbox_is(struct fixture *f, int64_t id, const char *expected)
{
    struct heard heard = {.left = -1};
    IS_OK(reader_inbox(f->reader, id, hear, &heard));
    IS_SPAN(buf_span(&heard.text), expected);
    buf_release(&heard.text);
}

static void messages_are(struct fixture *f, struct message_query query, int take, const char *expected, bool more)
{
    struct heard heard = {.left = take};
    bool others;
    IS_OK(reader_messages(f->reader, &query, hear, &heard, &others));
    IS_SPAN(buf_span(&heard.text), expected);
    cr_expect_eq(others, more, "after \"%s\"", expected);
    buf_release(&heard.text);
}

/* As many as that, as if they had been sent. */
static void fill(struct fixture *f, int64_t id, enum message_kind kind, int count)
{
    struct buf sql = {0};
    buf_addf(&sql,
             "INSERT INTO messages (seq, id, kind, number, at, body) WITH RECURSIVE n (i) AS "
             "(SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) SELECT (SELECT COALESCE(MAX(CAST(value AS "
             "BIGINT)), 0) FROM meta WHERE name = 'last_message') + i, %lld, %d, i, 1, 'null' FROM n; "
             "UPDATE invocations SET flags = flags | 64; INSERT INTO meta (name, value) SELECT 'last_message', "
             "MAX(seq) FROM messages WHERE true ON CONFLICT (name) DO UPDATE SET value = excluded.value",
             count, (long long)id, kind);
    exec_sql(f, buf_cstr(&sql));
    buf_release(&sql);
}

static int64_t messages_of(struct fixture *f, int64_t id)
{
    return askf(f, "SELECT COUNT(*) FROM messages WHERE id = %lld", (long long)id);
}

/* --- out -------------------------------------------------------------------------------- */

STORE_TEST(messages_have_numbers_in_the_order_of_commits)
{
    struct waited w, other;
    started(&w, f, submit(f), 1);
    started(&other, f, submit(f), 1);
    struct span bodies[] = {SPAN("{\"a\":1.10}"), SPAN("2"), SPAN("3")};
    struct op_message_out op;
    op_message_out_init(&op, &w.turn);
    op.bodies = bodies;
    op.count = 3;
    f->change_count = 0;
    IS_OK(store_do(f->store, &op.turn.op));
    cr_assert_eq(f->change_count, 1);
    const struct change *change = &f->changes[0];
    cr_expect(change->message && change->from == STATUS_RUNNING && change->to == STATUS_RUNNING);
    cr_expect(change->first_seq == op.first_seq && change->last_seq == op.first_seq + 2);
    cr_expect_gt(op.first_seq, 0);
    cr_expect_eq(send_out(f, &other.turn, "4", OK), op.first_seq + 3);
    cr_expect_eq(send_in(f, other.turn.id, "5", OK), op.first_seq + 4);
    IS_OK(store_do(f->store, &op.turn.op));
    cr_expect_eq(messages_of(f, w.turn.id), 6, "what is applied twice is there twice");
    messages_are(f, (struct message_query){.limit = 10}, 3, "out:{\"a\":1.10} out:2 out:3 ", true);
}

STORE_TEST(who_has_no_lease_sends_and_reads_nothing)
{
    struct waited w;
    int64_t id = submit(f);
    waited_init(&w, f, id, 1);
    send_out(f, &w.turn, "1", ERR_CONFLICT);
    mark_read(f, &w.turn, 9, ERR_CONFLICT);
    started(&w, f, id, 1);
    int64_t seq = send_in(f, id, "2", OK);
    struct turn stale = w.turn;
    stale.lease++;
    send_out(f, &stale, "1", ERR_CONFLICT);
    mark_read(f, &stale, seq, ERR_CONFLICT);
    inbox_is(f, id, "in:2 ");
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    send_out(f, &w.turn, "1", ERR_CONFLICT);
    mark_read(f, &w.turn, seq, ERR_CONFLICT);
    cr_expect_eq(messages_of(f, id), 1);
    inbox_is(f, id, "in:2 ");
}

STORE_TEST(an_outbox_holds_so_many_and_takes_all_or_none)
{
    struct waited w;
    struct span bodies[] = {SPAN("1"), SPAN("2")};
    struct op_message_out op;
    started(&w, f, submit(f), 1);
    fill(f, w.turn.id, MESSAGE_OUT, OUTBOX_MAX - 1);
    op_message_out_init(&op, &w.turn);
    op.bodies = bodies;
    op.count = 2;
    f->change_count = 0;
    cr_expect_eq(store_do(f->store, &op.turn.op), ERR_LIMIT);
    cr_expect_eq(f->change_count, 0);
    cr_expect_eq(messages_of(f, w.turn.id), OUTBOX_MAX - 1);
    send_out(f, &w.turn, "1", OK);
    send_out(f, &w.turn, "1", ERR_LIMIT);
    send_in(f, w.turn.id, "1", OK);
    cr_expect_eq(messages_of(f, w.turn.id), OUTBOX_MAX + 1);
}

/* --- in --------------------------------------------------------------------------------- */

STORE_TEST(a_message_reaches_what_is_not_final)
{
    static const struct {
        enum status status;
        enum err err;
    } rows[] = {
        {STATUS_SCHEDULED, OK},           {STATUS_QUEUED, OK},           {STATUS_RUNNING, OK},
        {STATUS_SUCCEEDED, ERR_CONFLICT}, {STATUS_FAILED, ERR_CONFLICT}, {STATUS_CANCELLED, ERR_CONFLICT},
    };
    struct submission later = plain(f);
    later.run_at = INT64_C(1) << 50;
    submit_all(f, &later, 1);
    struct waited w;
    int64_t ids[] = {later.id, submit(f), submit(f), succeed(f, submit(f)), fail_for_good(f, submit(f)),
                     submit(f)};
    started(&w, f, ids[2], 1);
    IS_OK(alter(f, ALTER_CANCEL, ids[5]));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        f->change_count = 0;
        struct op_message_in op = send_keyed(f, ids[i], "1", NULL, NULL, rows[i].err);
        const struct change *change = &f->changes[0];
        cr_expect_eq(op.status, rows[i].status, "%zu", i);
        cr_expect_eq(f->change_count, rows[i].err == OK, "%zu", i);
        if (rows[i].err == OK) /* nobody may take it for one that was queued again */
            cr_expect(change->message && change->first_seq == op.seq && change->last_seq == op.seq &&
                          change->from == op.status && change->to == op.status && !change->ready.id,
                      "%zu", i);
        inbox_is(f, ids[i], rows[i].err == OK ? "in:1 " : "");
    }
    struct op_message_in none = send_keyed(f, 1, "1", NULL, NULL, ERR_NOT_FOUND);
    cr_expect_eq(none.status, 0);
    check_counters(f);
}

STORE_TEST(a_key_stands_for_its_message)
{
    int64_t id = submit(f), other = submit(f);
    struct op_message_in first = send_keyed(f, id, "1", "k", "shop", OK);
    cr_expect_not(first.replayed);
    f->change_count = 0;
    struct op_message_in again = send_keyed(f, id, "1", "k", "shop", OK);
    cr_expect(again.replayed && again.seq == first.seq);
    cr_expect_eq(f->change_count, 0);
    send_keyed(f, id, "2", "k", "shop", ERR_MISMATCH);
    struct {
        int64_t id;
        const char *key, *owner;
    } others[] = {{id, "k", NULL}, {id, "k", "home"}, {id, "K", "shop"}, {other, "k", "shop"}, {id, NULL, "shop"}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        cr_expect_not(send_keyed(f, others[i].id, "2", others[i].key, others[i].owner, OK).replayed, "%zu", i);
    fixture_again(f);
    cr_expect(send_keyed(f, id, "2", "k", NULL, OK).replayed);
    IS_OK(alter(f, ALTER_CANCEL, id));
    again = send_keyed(f, id, "1", "k", "shop", OK);
    cr_expect(again.replayed && again.status == STATUS_CANCELLED, "it was accepted before it ended");
    send_keyed(f, id, "1", "new", "shop", ERR_CONFLICT);
    cr_expect_eq(messages_of(f, id), 5);
}

STORE_TEST(two_of_one_key_meet_in_one_batch)
{
    struct op_message_in first, second;
    struct parked parked[2];
    op_message_in_init(&first, submit(f));
    first.body = SPAN("1");
    first.key = SPAN("k");
    second = first;
    park(&first.op, &parked[0]);
    park(&second.op, &parked[1]);
    together(f, &first.op, &second.op);
    wait_parked(&parked[0]);
    wait_parked(&parked[1]);
    cr_expect(first.op.err == OK && !first.replayed);
    cr_expect(second.op.err == OK && second.replayed && second.seq == first.seq);
}

STORE_TEST(what_a_turn_has_read_no_later_one_gets)
{
    struct waited w;
    int64_t id = submit(f), first = send_in(f, id, "1", OK), second = send_in(f, id, "2", OK);
    started(&w, f, id, 1);
    send_out(f, &w.turn, "0", OK);
    inbox_is(f, id, "in:1 in:2 ");
    mark_read(f, &w.turn, first, OK);
    inbox_is(f, id, "in:2 ");
    mark_read(f, &w.turn, second, OK);
    f->change_count = 0;
    mark_read(f, &w.turn, second, OK);
    mark_read(f, &w.turn, first, OK);
    mark_read(f, &w.turn, 0, OK);
    cr_expect_eq(f->change_count, 0, "it was read before");
    inbox_is(f, id, "");
    mark_read(f, &w.turn, INT64_MAX, OK);
    send_in(f, id, "3", OK);
    inbox_is(f, id, "in:3 ");
    IS_OK(end(&w, f, FINISH_RETRY, STATUS_FAILED));
    fixture_again(f);
    started(&w, f, id, 2);
    inbox_is(f, id, "in:3 ");
    messages_are(f, (struct message_query){.id = id, .kinds = 1u << MESSAGE_IN, .limit = 10}, -1,
                 "in:1 in:2 in:3 ", false);
}

/* The mark is the end's own: it is there with it, or not at all. */
STORE_TEST(an_end_says_what_of_its_inbox_the_turn_has_read)
{
    struct waited w;
    int64_t id = submit(f), first;
    started(&w, f, id, 1);
    first = send_in(f, id, "1", OK);
    send_in(f, id, "2", OK);
    w.finish.inbox_read = first;
    IS_OK(end(&w, f, FINISH_REQUEUE, STATUS_QUEUED));
    inbox_is(f, id, "in:2 ");
    w.finish.inbox_read = INT64_MAX;
    cr_expect_eq(end(&w, f, FINISH_REQUEUE, STATUS_QUEUED), OK, "it was written before");
    inbox_is(f, id, "in:2 ");
    started(&w, f, id, 2);
    w.turn.lease++; /* another's */
    w.finish.turn.turn = w.turn;
    w.finish.inbox_read = INT64_MAX;
    cr_expect_eq(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED), ERR_CONFLICT);
    inbox_is(f, id, "in:2 ");
}

/* Start and end meet in one batch, and are two writes because of the inbox. */
STORE_TEST(a_turn_that_ends_with_its_start_has_read_its_inbox_all_the_same)
{
    struct waited w;
    int64_t id = submit(f);
    send_in(f, id, "1", OK);
    waited_init(&w, f, id, 1);
    w.finish.next = FINISH_FINAL;
    w.finish.status = STATUS_SUCCEEDED;
    w.finish.inbox_read = INT64_MAX;
    together(f, &w.claim.turn.op, &w.finish.turn.op);
    IS_OK(wait_claimed(&w));
    IS_OK(wait_finished(&w));
    inbox_is(f, id, "");
    check_counters(f);
}

STORE_TEST(an_inbox_is_read_from_where_one_stands)
{
    struct waited w;
    int64_t id = submit(f), seqs[4];
    started(&w, f, id, 1);
    for (int i = 0; i < 4; i++)
        seqs[i] = send_in(f, id, (const char *[]){"0", "1", "2", "3"}[i], OK);
    mark_read(f, &w.turn, seqs[0], OK);
    static const char *const left[] = {"in:1 in:2 in:3 ", "in:2 in:3 ", "in:3 ", ""};
    for (int i = 0; i < 4; i++) {
        struct heard heard = {.left = -1};
        IS_OK(reader_inbox_after(f->reader, id, seqs[i], hear, &heard));
        IS_SPAN(buf_span(&heard.text), left[i]);
        buf_release(&heard.text);
    }
}

STORE_TEST(nothing_is_read_of_an_inbox_that_is_empty)
{
    struct waited w;
    started(&w, f, submit(f), 1);
    send_out(f, &w.turn, "1", OK);
    mark_read(f, &w.turn, INT64_MAX, OK);
    send_in(f, w.turn.id, "2", OK);
    inbox_is(f, w.turn.id, "in:2 ");
}

STORE_TEST(so_many_wait_in_an_inbox)
{
    struct waited w;
    int64_t id = submit(f);
    started(&w, f, id, 1);
    fill(f, id, MESSAGE_IN, UNREAD_MAX - 1);
    int64_t last = send_keyed(f, id, "1", "k", NULL, OK).seq;
    send_in(f, id, "2", ERR_LIMIT);
    cr_expect(send_keyed(f, id, "1", "k", NULL, OK).replayed);
    mark_read(f, &w.turn, last - UNREAD_MAX + 1, OK);
    send_in(f, id, "3", OK);
    send_in(f, id, "4", ERR_LIMIT);
    mark_read(f, &w.turn, last, OK);
    inbox_is(f, id, "in:3 ");
    send_in(f, id, "5", OK);
    cr_expect_eq(messages_of(f, id), UNREAD_MAX + 2);
}

/* --- reading ---------------------------------------------------------------------------- */

STORE_TEST(messages_are_read_by_whose_they_are_their_kind_and_where_one_stood)
{
    struct waited w, other;
    started(&w, f, submit(f), 1);
    started(&other, f, submit(f), 1);
    int64_t a = w.turn.id, b = other.turn.id, first = send_out(f, &w.turn, "1", OK);
    send_in(f, a, "2", OK);
    send_out(f, &other.turn, "3", OK);
    send_in(f, b, "4", OK);
    send_out(f, &w.turn, "5", OK);
    send_in(f, a, "6", OK);
    const unsigned out = 1u << MESSAGE_OUT, in = 1u << MESSAGE_IN;
    const struct {
        struct message_query query;
        int take;
        const char *expected;
        bool more;
    } rows[] = {
        {{.limit = 10}, -1, "out:1 in:2 out:3 in:4 out:5 in:6 ", false},
        {{.kinds = out | in, .limit = 6}, -1, "out:1 in:2 out:3 in:4 out:5 in:6 ", false},
        {{.limit = 5}, -1, "out:1 in:2 out:3 in:4 out:5 ", true},
        {{.limit = 10}, 2, "out:1 in:2 ", true},
        {{.after_seq = first + 1, .limit = 2}, -1, "out:3 in:4 ", true},
        {{.after_seq = first + 5, .limit = 2}, -1, "", false},
        {{.kinds = out, .limit = 10}, -1, "out:1 out:3 out:5 ", false},
        {{.kinds = in, .after_seq = first + 1, .limit = 1}, -1, "in:4 ", true},
        {{.id = a, .limit = 10}, -1, "out:1 in:2 out:5 in:6 ", false},
        {{.id = a, .after_seq = first, .limit = 2}, -1, "in:2 out:5 ", true},
        {{.id = a, .kinds = out, .limit = 10}, -1, "out:1 out:5 ", false},
        {{.id = b, .kinds = in, .limit = 10}, -1, "in:4 ", false},
        {{.id = 1, .limit = 10}, -1, "", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        messages_are(f, rows[i].query, rows[i].take, rows[i].expected, rows[i].more);
}

/* --- going ------------------------------------------------------------------------------ */

/* SQLite would give the number of the highest row again once that is gone. */
STORE_TEST(a_number_never_comes_twice)
{
    struct waited w;
    int64_t last = 0;
    for (int i = 0; i < 4; i++) {
        int64_t id = submit(f);
        started(&w, f, id, 1);
        int64_t out = send_out(f, &w.turn, "1", OK), in = send_in(f, id, "2", OK);
        cr_expect(out > last && in > out, "%d", i);
        last = in;
        IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
        IS_OK(alter(f, ALTER_DELETE, id));
        cr_expect_eq(ask(f, "SELECT COUNT(*) FROM messages"), 0);
        if (i % 2)
            fixture_again(f);
    }
}

STORE_TEST(messages_go_with_their_invocation_in_steps_that_survive_a_crash)
{
    struct waited w, other;
    started(&w, f, submit(f), 1);
    started(&other, f, submit(f), 1);
    fill(f, w.turn.id, MESSAGE_OUT, 700);
    fill(f, w.turn.id, MESSAGE_IN, 600);
    send_out(f, &other.turn, "1", OK);
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    f->change_count = 0;
    IS_OK(alter(f, ALTER_DELETE, w.turn.id));
    cr_assert(f->changes[0].follow_up);
    cr_expect_eq(messages_of(f, w.turn.id), 800);
    check_counters(f);
    fixture_again(f);
    cr_expect(upkeep(f, UPKEEP_FOLLOW_UP).more);
    cr_expect_eq(messages_of(f, w.turn.id), 300);
    cr_expect_not(upkeep(f, UPKEEP_FOLLOW_UP).more);
    cr_expect_eq(messages_of(f, w.turn.id), 0);
    cr_expect_eq(messages_of(f, other.turn.id), 1);
}

/* --- given ------------------------------------------------------------------------------ */

static void give(struct fixture *f, const struct turn *turn, int64_t up_to_seq, enum err expected)
{
    struct op_messages_given op;
    op_messages_given_init(&op, turn);
    op.up_to_seq = up_to_seq;
    cr_expect_eq(store_do(f->store, &op.turn.op), expected);
}

struct op_good_end {
    struct turn_op turn;
};

static enum err apply_good_end(struct tx *tx, struct op *base)
{
    return messages_take_given(tx, &((struct op_good_end *)base)->turn.turn);
}

static void end_well(struct fixture *f, const struct turn *turn)
{
    static const struct op_class class = {.name = "good_end", .apply = apply_good_end};
    struct op_good_end op = {.turn.turn = *turn};
    op_init(&op.turn.op, &class);
    IS_OK(store_do(f->store, &op.turn.op));
}

STORE_TEST(a_good_end_reads_what_its_turn_was_given)
{
    struct waited w;
    int64_t id = submit(f);
    int64_t first = send_in(f, id, "1", OK), second = send_in(f, id, "2", OK);
    started(&w, f, id, 1);
    end_well(f, &w.turn);
    inbox_is(f, id, "in:1 in:2 ");
    give(f, &w.turn, first, OK);
    inbox_is(f, id, "in:1 in:2 ");
    IS_OK(end(&w, f, FINISH_RETRY, STATUS_FAILED));
    give(f, &w.turn, second, ERR_CONFLICT);
    started(&w, f, id, 2);
    end_well(f, &w.turn);
    inbox_is(f, id, "in:1 in:2 "); /* that was another turn */
    give(f, &w.turn, second, OK);
    give(f, &w.turn, first, OK);
    fixture_again(f);
    end_well(f, &w.turn);
    inbox_is(f, id, "");
    send_in(f, id, "3", OK);
    end_well(f, &w.turn);
    inbox_is(f, id, "in:3 ");
    IS_OK(end(&w, f, FINISH_FINAL, STATUS_SUCCEEDED));
    IS_OK(alter(f, ALTER_DELETE, id));
    check_counters(f);
}

STORE_TEST(what_the_turn_under_way_was_given_takes_no_room)
{
    struct waited w;
    int64_t id = submit(f);
    fill(f, id, MESSAGE_IN, UNREAD_MAX);
    started(&w, f, id, 1);
    send_in(f, id, "1", ERR_LIMIT);
    give(f, &w.turn, ask(f, "SELECT MIN(seq) FROM messages"), OK);
    send_in(f, id, "1", OK);
    send_in(f, id, "2", ERR_LIMIT);
    IS_OK(end(&w, f, FINISH_RETRY, STATUS_FAILED));
    send_in(f, id, "2", ERR_LIMIT);
}

STORE_TEST(an_inbox_is_looked_at_from_what_is_unread_on)
{
    struct waited w;
    int64_t id = submit(f), after = 0;
    bool any;
    started(&w, f, id, 1);
    IS_OK(reader_inbox_look(f->reader, id, &after, &any));
    cr_expect(!any && after == 0);
    int64_t first = send_in(f, id, "1", OK), second = send_in(f, id, "2", OK);
    IS_OK(reader_inbox_look(f->reader, id, &after, &any));
    cr_expect(any && after == 0);
    mark_read(f, &w.turn, first, OK);
    IS_OK(reader_inbox_look(f->reader, id, &after, &any));
    cr_expect(any && after == first);
    after = second;
    IS_OK(reader_inbox_look(f->reader, id, &after, &any));
    cr_expect(!any && after == second);
}
