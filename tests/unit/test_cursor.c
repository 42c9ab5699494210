#include "server/http/query.h"

#include <criterion/criterion.h>

Test(cursor, an_id_comes_back_as_it_was)
{
    static const int64_t ids[] = {1,        2, 3, 4, 63, 64, 4095, INT64_C(1) << 22, INT64_C(907199254740993001),
                                  INT64_MAX};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        struct buf text = {0};
        int64_t id = 0;
        cursor_add(&text, ids[i]);
        cr_expect_eq(text.len, 11);
        cr_expect_eq(strspn(buf_cstr(&text), "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"),
                     text.len, "%s is not safe in a URL", text.data);
        cr_expect(cursor_parse(buf_span(&text), &id), "%s", text.data);
        cr_expect_eq(id, ids[i]);
        buf_release(&text);
    }
}

/* Two cursors for one place would be two pages with one name. */
Test(cursor, what_was_never_given_is_refused)
{
    static const char *const rows[] = {
        "",
        "A",
        "!!",
        "AAAAAAAAAAA" /* 0 */,
        "AAAAAAAAAAB" /* spare bits */,
        "AAAAAAAAAAE=",
        "AAAAAAAAAAEE",
        "AAAAAAAAA+E",
        "AAAAAAAAA/E",
        "AAAAAAAAA E",
        "__________8" /* below zero */,
        "0BYZ2H9QW4G00",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t id;
        cr_expect_not(cursor_parse(span_of(rows[i]), &id), "%s", rows[i]);
    }
    int64_t id;
    cr_expect_not(cursor_parse((struct span){"AAAAAAAA\0AE", 11}, &id));
}
