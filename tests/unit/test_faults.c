#include "base/faults.h"
#include "base/utf8.h"
#include <criterion/criterion.h>

Test(faults, keeps_where_and_what)
{
    struct faults f = {0};
    faults_add(&f, 0, "", "the body is not %s", "JSON");
    faults_add(&f, 7, "/tasks/a", "%d is too many", 9);
    cr_assert_eq(f.count, 2);
    cr_assert_eq(f.total, 2);
    cr_expect_str_eq(f.items[0].pointer, "");
    cr_expect_str_eq(f.items[0].detail, "the body is not JSON");
    cr_expect_eq(f.items[0].line, 0);
    cr_expect_str_eq(f.items[1].pointer, "/tasks/a");
    cr_expect_str_eq(f.items[1].detail, "9 is too many");
    cr_expect_eq(f.items[1].line, 7);
    faults_release(&f);
    cr_expect_eq(f.total, 0);
    cr_expect_null(f.items);
}

Test(faults, a_members_key_is_escaped_in_the_pointer)
{
    static const struct row {
        const char *parent, *key, *pointer;
    } rows[] = {
        {"", "x", "/x"},      {"/args", "", "/args/"},      {"/args", "a/b", "/args/a~1b"},
        {"", "m~n", "/m~0n"}, {"/a~1b", "~1", "/a~1b/~01"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct faults f = {0};
        faults_add_member(&f, 3, rows[i].parent, span_of(rows[i].key), "unknown %s", "field");
        cr_expect_str_eq(f.items[0].pointer, rows[i].pointer);
        cr_expect_str_eq(f.items[0].detail, "unknown field");
        cr_expect_eq(f.items[0].line, 3);
        faults_release(&f);
    }
}

Test(faults, keeps_a_hundred_and_counts_all)
{
    struct faults f = {0};
    for (int i = 0; i < FAULTS_MAX + 50; i++)
        faults_add(&f, i, "", "number %d", i);
    cr_expect_eq(f.count, FAULTS_MAX);
    cr_expect_eq(f.total, FAULTS_MAX + 50);
    cr_expect_str_eq(f.items[FAULTS_MAX - 1].detail, "number 99");
    faults_release(&f);
}

Test(faults, the_detail_can_always_be_shown)
{
    char wide[1200];
    for (size_t i = 0; i + 1 < sizeof wide; i++)
        wide[i] = i % 2 ? '\xA9' : '\xC3';
    wide[sizeof wide - 1] = '\0';
    struct faults f = {0};
    faults_add(&f, 0, "", "a\nb\tc\x1B[31m\x7F");
    faults_add(&f, 0, "", "%s", "bad \xFF byte");
    faults_add(&f, 0, "", "x%s", wide);
    faults_add(&f, 0, wide, "long pointer");
    cr_expect_str_eq(f.items[0].detail, "a b c [31m ");
    cr_expect_str_eq(f.items[1].detail, "bad " UTF8_REPLACEMENT " byte");
    cr_expect_eq(strlen(f.items[2].detail), 499);
    cr_expect(utf8_valid(span_of(f.items[2].detail)));
    cr_expect_eq(strlen(f.items[3].pointer), 1000);
    faults_release(&f);
}

Test(faults, bytes_that_grow_when_mended_are_cut_too)
{
    char bad[400];
    memset(bad, '\xFF', sizeof bad - 1);
    bad[sizeof bad - 1] = '\0';
    struct faults f = {0};
    faults_add(&f, 0, "", "%s", bad);
    cr_expect(strlen(f.items[0].detail) <= 500);
    cr_expect(utf8_valid(span_of(f.items[0].detail)));
    faults_release(&f);
}
