#include "base/id.h"
#include <criterion/criterion.h>

static const int64_t now_ms = ID_EPOCH_MS + 1000;

static const char *text_of(int64_t id)
{
    static char text[ID_TEXT_LEN + 1];
    id_format(id, text);
    return text;
}

Test(id, holds_time_node_and_sequence)
{
    struct id_source source = {.node = 5};
    int64_t id = id_next(&source, now_ms);
    cr_expect_eq(id, INT64_C(1000) << 22 | 5 << 12);
    cr_expect_eq(id_time_ms(id), now_ms);
    cr_expect_eq(id_next(&source, now_ms), id + 1);
    cr_expect_eq(source.last, id + 1);
}

Test(id, a_full_millisecond_borrows_from_the_next)
{
    struct id_source source = {.node = ID_NODE_MAX};
    int64_t previous = 0;
    for (int i = 0; i < 10000; i++) {
        int64_t id = id_next(&source, now_ms);
        cr_assert(id > previous);
        cr_assert_eq(id_time_ms(id), now_ms + i / 4096);
        previous = id;
    }
}

Test(id, a_clock_that_goes_back_does_not_take_ids_back)
{
    struct id_source source = {.node = 1};
    int64_t first = id_next(&source, now_ms);
    cr_expect_eq(id_next(&source, now_ms - 500), first + 1);
    cr_expect_eq(id_next(&source, 0), first + 2);
    cr_expect_eq(id_time_ms(id_next(&source, now_ms + 1)), now_ms + 1);
}

Test(id, goes_above_the_last_id_of_a_higher_node)
{
    struct id_source source = {.node = 900};
    int64_t last = id_next(&source, now_ms);
    struct id_source lower = {.node = 3, .last = last};
    int64_t id = id_next(&lower, now_ms);
    cr_expect(id > last);
    cr_expect_eq(id >> 12 & ID_NODE_MAX, 3);
}

Test(id, the_lowest_of_a_time_is_clamped)
{
    cr_expect_eq(id_lowest_at(0), 0);
    cr_expect_eq(id_lowest_at(INT64_MIN), 0);
    cr_expect_eq(id_lowest_at(ID_EPOCH_MS), 0);
    cr_expect_eq(id_lowest_at(ID_EPOCH_MS + 1), INT64_C(1) << 22);
    cr_expect_eq(id_lowest_at(INT64_MAX), INT64_MAX);
    cr_expect_eq(id_lowest_at(ID_EPOCH_MS + (INT64_C(1) << 41)), INT64_MAX);
    struct id_source source = {.node = 0};
    cr_expect_eq(id_next(&source, now_ms), id_lowest_at(now_ms));
}

Test(id, text_is_thirteen_sorted_characters)
{
    static const struct row {
        int64_t id;
        const char *text;
    } rows[] = {
        {0, "0000000000000"},
        {31, "000000000000Z"},
        {32, "0000000000010"},
        {INT64_MAX, "7ZZZZZZZZZZZZ"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t back = -1;
        cr_expect_str_eq(text_of(rows[i].id), rows[i].text);
        cr_expect(id_parse(span_of(rows[i].text), &back));
        cr_expect_eq(back, rows[i].id);
        if (i > 0)
            cr_expect(strcmp(rows[i - 1].text, rows[i].text) < 0);
    }
    struct buf b = {0};
    buf_addc(&b, '/');
    id_add(&b, 32);
    cr_expect_str_eq(buf_cstr(&b), "/0000000000010");
    buf_release(&b);
}

Test(id, text_is_read_generously_but_exactly)
{
    static const struct row {
        const char *name, *text;
        int64_t id; /* -1: refused */
    } rows[] = {
        {"lower case", "7zzzzzzzzzzzz", INT64_MAX},
        {"I, L and O", "oOoOoOoOoOiLI", 1 << 10 | 1 << 5 | 1},
        {"empty", "", -1},
        {"short", "000000000000", -1},
        {"long", "00000000000000", -1},
        {"65 bits", "8000000000000", -1},
        {"U", "000000000000U", -1},
        {"a sign", "-000000000001", -1},
        {"a space", " 000000000001", -1},
        {"not ASCII", "00000000000\xC3\xA9", -1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t id = -1;
        cr_expect_eq(id_parse(span_of(rows[i].text), &id), rows[i].id >= 0, "%s", rows[i].name);
        cr_expect_eq(id, rows[i].id, "%s", rows[i].name);
    }
    int64_t id;
    cr_expect_not(id_parse((struct span){"000000\0000000", 13}, &id), "NUL");
}

#define DAY_MS (INT64_C(86400) * 1000)
#define YEAR_MS (365 * DAY_MS)

/* One wrong moment stood in all later ids, and past 2089 there were none. */
Test(id, the_clock_is_followed_so_far_and_no_further)
{
    static const struct {
        const char *name;
        int64_t last_ms;                               /* before the rows' first one */
        int64_t boot_ms[3], wall_ms[3], follows_ms[3]; /* since now_ms */
    } rows[] = {
        {"as it goes", 0, {1, 1000, 2000}, {0, 1000, 2000}, {0, 1000, 2000}},
        {"back and on", 0, {1, 1000, 2000}, {0, -5000, -4000}, {0, -5000, -4000}},
        {"somewhat ahead", 0, {1, 1001, 2001}, {0, DAY_MS, DAY_MS + 1000}, {0, DAY_MS, DAY_MS + 1000}},
        {"years ahead, once", 0, {1, 1001, 2001}, {0, 60 * YEAR_MS, 2000}, {0, 1000, 2000}},
        {"years ahead, and there it stays for a day",
         0,
         {1, 1001, 1001 + DAY_MS},
         {0, 5 * YEAR_MS, 5 * YEAR_MS + DAY_MS},
         {0, 1000, 5 * YEAR_MS + DAY_MS}},
        {"never so far that ids end",
         0,
         {1, 1001, 1001 + DAY_MS},
         {0, 60 * YEAR_MS, 60 * YEAR_MS + DAY_MS},
         {0, 1000, DAY_MS + 1000}},
        {"after a long sleep of the machine",
         0,
         {1, 1 + 9 * DAY_MS, 1 + 10 * DAY_MS},
         {0, 9 * DAY_MS, 10 * DAY_MS},
         {0, 9 * DAY_MS, 10 * DAY_MS}},
        {"after years without a server", -9 * YEAR_MS, {1, 2, 3}, {0, 1, 2}, {0, 1, 2}},
        {"a start at a wrong time", -1000, {1, 1001, 2001}, {12 * YEAR_MS, 12 * YEAR_MS, 2000}, {-1000, 0, 2000}},
        {"a first start at a wrong time", 0, {1, 1, 1}, {69 * YEAR_MS, 69 * YEAR_MS, 0}, {-1000, -1000, 0}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct id_clock clock = {.last_ms = rows[i].last_ms ? now_ms + rows[i].last_ms : 0};
        for (int k = 0; k < 3; k++)
            cr_expect_eq(id_clock_follow(&clock, now_ms + rows[i].wall_ms[k], rows[i].boot_ms[k]) - now_ms,
                         rows[i].follows_ms[k], "%s, %d", rows[i].name, k);
    }
}
