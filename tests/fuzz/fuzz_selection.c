/* The `filter` of a body, and the same as a query: they are refused with faults,
 * or they become SQL that a database takes. */
#include "base/json.h"
#include "base/keys.h"
#include "server/http/query.h"
#include "server/resources/selection.h"

#include <assert.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char text[] = "tasks: {any: {kind: command, run: [cat]}, add: {kind: command, run: [echo]}}\n";

static struct {
    struct config *config;
    struct store *store;
    struct reader *reader;
} house;

/* One invocation that most filters can see, and one more. */
static void fill(void)
{
    struct submission items[2] = {
        {.priority = 1,
         .args = SPAN("1"),
         .labels = SPAN("{\"a\":\"b\"}"),
         .key_owner = SPAN(""),
         .key = SPAN("k")},
        {.priority = 1},
    };
    struct op_submit op;
    if (store_task_id(house.store, SPAN("any"), &items[0].task) != OK)
        abort();
    items[1].task = items[0].task;
    op_submit_init(&op, items, 2);
    if (store_do(house.store, &op.op) != OK)
        abort();
}

/* Removes the folder of `:memory:`. */
static void finish(void)
{
    reader_close(house.reader);
    store_close(house.store);
    config_free(house.config);
}

static void begin(void)
{
    struct faults faults = {0};
    struct reason why;
    struct store_options options = {.url = ":memory:", .node = 1};
    static const struct store_listener deaf = {0};
    house.config = config_parse(SPAN(text), "/", &faults);
    if (!house.config || store_open(&options, &house.store, &why) != OK)
        abort();
    store_listen(house.store, &deaf);
    if (store_start(house.store, &why) != OK || reader_open(house.store, &house.reader, &why) != OK)
        abort();
    fill();
    store_stop(house.store);
    atexit(finish);
}

static struct selection selection(void)
{
    return (struct selection){.registry = house.config->registry, .store = house.store, .key_owner = SPAN("")};
}

static bool count_row(void *context, const struct invocation *row)
{
    assert(row->id > 0);
    ++*(int *)context;
    return true;
}

static void expect_rows(const struct filter *filter)
{
    struct list_query query = {.filter = *filter, .limit = 10, .oldest_first = true};
    int count = 0;
    int64_t next;
    assert(filter->label_count >= 0 && filter->label_count <= LABELS_MAX);
    assert(reader_list(house.reader, &query, count_row, &count, &next) == OK && count <= 2);
}

static void expect_faults(struct faults *faults)
{
    for (int i = 0; i < faults->count; i++) {
        assert(faults->items[i].detail[0] && utf8_valid(span_of(faults->items[i].detail)));
        assert(utf8_valid(span_of(faults->items[i].pointer)));
    }
    faults_release(faults);
}

static void read_body(struct span body)
{
    static const struct key whole[] = {{.name = "filter", .type = KEY_OTHER, .read_json = selection_read}, {0}};
    struct faults faults = {0};
    struct buf arena = {0};
    struct keys_json in = {&faults, &arena};
    struct selection s = selection();
    keys_read_json(&in, NULL, body, whole, &s);
    if (!faults.total)
        expect_rows(&s.filter);
    expect_faults(&faults);
    buf_release(&arena);
}

static void read_query(struct span raw)
{
    static struct request rq;
    struct faults faults = {0};
    struct buf arena = {0};
    struct reason why;
    struct selection s = selection();
    if (query_parse(raw, &arena, rq.query, &rq.query_count, &why) == OK) {
        selection_read_query(&s, &rq, &faults);
        if (!faults.total)
            expect_rows(&s.filter);
    }
    expect_faults(&faults);
    buf_release(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span input = {size ? (const char *)data : "", size};
    if (!house.config)
        begin();
    if (json_check(input.p, input.len, JSON_DEPTH_MAX, NULL) == OK)
        read_body(input);
    else
        read_query(input);
    return 0;
}
