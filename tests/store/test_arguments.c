/* Invocations found by their arguments. */
#include "store/arguments.h"
#include "tests/store/support.h"

#include <stdlib.h>

static struct submission with(const struct fixture *f, struct particulars *of, const char *path, struct span value)
{
    struct submission s = plain(f);
    *of = (struct particulars){0};
    buf_adds(&of->argument_text, path);
    buf_add_span(&of->argument_text, value);
    of->arguments[0] = (struct argument){0, strlen(path), strlen(path), value.len};
    of->argument_count = 1;
    s.particulars = of;
    return s;
}

static bool never(const struct filter *filter, int task, struct span args)
{
    (void)filter, (void)task, (void)args;
    return false;
}

static bool count_row(void *context, const struct invocation *row)
{
    (void)row;
    ++*(int *)context;
    return true;
}

static int found(struct fixture *f, const char *path, struct span value)
{
    int count = 0;
    int64_t next;
    struct list_query query = {.filter = {.task = f->task,
                                          .arg_paths = {span_of(path)},
                                          .arg_values = {value},
                                          .arg_count = 1,
                                          .arg_indexed = 1,
                                          .args_match = never},
                               .limit = 10};
    IS_OK(reader_list(f->reader, &query, count_row, &count, &next));
    cr_assert(filter_is_indexed(&query.filter));
    return count;
}

STORE_TEST(an_indexed_argument_is_found_and_goes_with_its_row)
{
    struct particulars a, b;
    struct submission one = with(f, &a, "user.id", SPAN("7")), two = with(f, &b, "user.id", SPAN("8"));
    submit_all(f, &one, 1);
    submit_all(f, &two, 1);
    cr_assert_eq(found(f, "user.id", SPAN("7")), 1);
    cr_assert_eq(found(f, "user.id", SPAN("9")), 0);
    cr_assert_eq(found(f, "user", SPAN("7")), 0);
    succeed(f, one.id);
    cr_assert_eq(found(f, "user.id", SPAN("7")), 1);
    IS_OK(alter(f, ALTER_DELETE, one.id));
    cr_assert_eq(found(f, "user.id", SPAN("7")), 0);
    check_counters(f);
    buf_release(&a.argument_text);
    buf_release(&b.argument_text);
}

/* A text of any length is a key of a bounded one. */
STORE_TEST(long_texts_are_told_apart_by_their_digest)
{
    char *large = xmalloc(3000);
    memset(large, 'x', 3000);
    struct particulars a, b;
    struct submission one = with(f, &a, "a", (struct span){large, 3000});
    submit_all(f, &one, 1);
    large[2999] = 'y';
    struct submission two = with(f, &b, "a", (struct span){large, 3000});
    submit_all(f, &two, 1);
    cr_assert_eq(found(f, "a", (struct span){large, 3000}), 1);
    cr_assert_eq(found(f, "a", (struct span){large, 2999}), 0);
    cr_assert(ask(f, "SELECT MAX(LENGTH(term)) FROM arguments") < 300);
    free(large);
    buf_release(&a.argument_text);
    buf_release(&b.argument_text);
}

STORE_TEST(no_two_arguments_have_one_term)
{
    (void)f;
    static const struct {
        const char *path, *text;
    } terms[] = {{"a", "b=c"}, {"a=b", "c"}, {"a", "=b"}, {"a=", "b"}, {"1:a", "b"}, {"", "1:a=b"}};
    enum { TERMS = sizeof terms / sizeof *terms };
    char texts[TERMS][64];
    for (int i = 0; i < TERMS; i++) {
        struct buf out = {0};
        argument_add_term(&out, span_of(terms[i].path), span_of(terms[i].text));
        strcpy(texts[i], buf_cstr(&out));
        buf_release(&out);
        for (int k = 0; k < i; k++)
            cr_expect_str_neq(texts[i], texts[k]);
    }
}

STORE_TEST(a_replacement_is_found_by_its_own_arguments)
{
    struct particulars a, b;
    struct submission one = with(f, &a, "n", SPAN("1")), two = with(f, &b, "n", SPAN("2"));
    a.unique = b.unique = (struct unique_place){.scope = UNIQUE_UNFINISHED, .on_conflict = UNIQUE_REPLACE};
    submit_all(f, &one, 1);
    submit_all(f, &two, 1);
    cr_assert_eq(two.id, one.id);
    cr_assert_eq(found(f, "n", SPAN("1")), 0);
    cr_assert_eq(found(f, "n", SPAN("2")), 1);
    buf_release(&b.first.text);
    buf_release(&a.argument_text);
    buf_release(&b.argument_text);
}
