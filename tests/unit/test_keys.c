#include "base/keys.h"

#include <criterion/criterion.h>
#include <inttypes.h>

struct target {
    struct span text, any;
    int number;
    bool truth;
    int64_t at, lasting;
    int inner;
};

static void read_inner(const struct keys_json *in, const struct keys_place *at, struct span value, void *target)
{
    static const struct key inner_fields[] = {
        {.name = "n", .type = KEY_INT, .offset = offsetof(struct target, inner), .max = 9, .required = true}, {0}};
    keys_read_json(in, at, value, inner_fields, target);
}

static const struct key table[] = {
    {.name = "text", .type = KEY_SPAN, .offset = offsetof(struct target, text), .min = 1, .max = 5},
    {.name = "number", .type = KEY_INT, .offset = offsetof(struct target, number), .min = -1, .max = 127},
    {.name = "truth", .type = KEY_BOOL, .offset = offsetof(struct target, truth)},
    {.name = "at", .type = KEY_TIME, .offset = offsetof(struct target, at), .nullable = true},
    {.name = "lasting", .type = KEY_DURATION, .offset = offsetof(struct target, lasting), .min = 1},
    {.name = "any", .type = KEY_VALUE, .offset = offsetof(struct target, any)},
    {.name = "inner", .type = KEY_OTHER, .read_json = read_inner},
    {0},
};

/* The faults as "pointer: detail|". */
static struct buf faults_of(const char *body, struct target *target, struct buf *arena, uint64_t *given)
{
    struct faults faults = {0};
    struct keys_json in = {&faults, arena};
    struct buf text = {0};
    *given = keys_read_json(&in, NULL, span_of(body), table, target);
    for (int i = 0; i < faults.count; i++)
        buf_addf(&text, "%s: %s|", faults.items[i].pointer, faults.items[i].detail);
    buf_cstr(&text);
    faults_release(&faults);
    return text;
}

Test(keys, are_read_into_their_places)
{
    struct target t = {.at = 77};
    struct buf arena = {0};
    uint64_t given;
    struct buf faults = faults_of(" {\"text\": \"a\\u0062\", \"n\\u0075mber\": -1, \"truth\": true, \"at\": null,"
                                  "\"lasting\":\"1.5s\", \"any\": [1.10, {}], \"inner\": {\"n\": 3}} ",
                                  &t, &arena, &given);
    cr_expect_str_eq(faults.data, "");
    cr_expect(span_is(t.text, "ab"));
    cr_expect_eq(t.number, -1);
    cr_expect(t.truth);
    cr_expect_eq(t.at, 77, "null leaves it as it was");
    cr_expect_eq(t.lasting, 1500);
    cr_expect(span_is(t.any, "[1.10, {}]"));
    cr_expect_eq(t.inner, 3);
    cr_expect_eq(given, 0x7F);
    buf_release(&faults);
    buf_release(&arena);
}

Test(keys, everything_that_is_wrong_is_named_at_once)
{
    static const struct {
        const char *body, *faults;
    } rows[] = {
        {"[1]", ": must be an object, not array|"},
        {"{\"nubmer\":1}", "/nubmer: unknown field; did you mean `number`?|"},
        {"{\"a/b~\\u0063\":1}", "/a~1b~0c: unknown field|"},
        {"{\"text\":1}", "/text: must be a string, not number|"},
        {"{\"text\":\"\"}", "/text: must have 1 to 5 characters, none of them NUL|"},
        {"{\"text\":\"a\\u0000\"}", "/text: must have 1 to 5 characters, none of them NUL|"},
        {"{\"text\":\"abcdef\"}", "/text: must have 1 to 5 characters, none of them NUL|"},
        {"{\"number\":1.5}", "/number: must be a whole number from -1 to 127|"},
        {"{\"number\":128}", "/number: must be a whole number from -1 to 127|"},
        {"{\"number\":99999999999999999999}", "/number: must be a whole number from -1 to 127|"},
        {"{\"number\":null}", "/number: must be a whole number from -1 to 127|"},
        {"{\"truth\":0,\"inner\":[]}", "/truth: must be true or false|/inner: must be an object, not array|"},
        {"{\"inner\":{\"m\":1}}", "/inner/m: unknown field|/inner/n: is missing|"},
        {"{\"at\":\"tomorrow\"}", "/at: is not a time; write one such as \"2026-01-31T12:00:00Z\" (RFC 3339)|"},
        {"{\"lasting\":30}", "/lasting: must be a duration with its unit, such as \"30s\" or \"1h30m\"|"},
        {"{\"lasting\":\"30\"}",
         "/lasting: is not a duration; write one with its unit, such as \"30s\" or \"1h30m\"|"},
        {"{\"lasting\":\"0s\"}", "/lasting: is too short; it is 1ms at least|"},
        {"{\"lasting\":\"36501d\"}", "/lasting: is too long; it is 36500d at most|"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct target t = {0};
        struct buf arena = {0};
        uint64_t given;
        struct buf faults = faults_of(rows[i].body, &t, &arena, &given);
        cr_expect_str_eq(faults.data, rows[i].faults);
        buf_release(&faults);
        buf_release(&arena);
    }
}

/* Texts with escapes are decoded into one arena, which must not move. */
Test(keys, texts_stay_where_they_are_while_others_are_read)
{
    static const struct key two[] = {
        {.name = "a", .type = KEY_SPAN, .offset = 0, .max = 100000},
        {.name = "b", .type = KEY_SPAN, .offset = sizeof(struct span), .max = 100000},
        {0},
    };
    struct span texts[2];
    struct faults faults = {0};
    struct buf arena = {0}, body = {0};
    buf_addl(&body, "{\"a\":\"\\n\",\"b\":\"");
    for (int i = 0; i < 1000; i++)
        buf_addl(&body, "\\u00e4");
    buf_addl(&body, "\"}");
    keys_read_json(&(struct keys_json){&faults, &arena}, NULL, buf_span(&body), two, texts);
    cr_expect(span_is(texts[0], "\n"));
    cr_expect_eq(texts[1].len, 2000);
    cr_expect_eq(memcmp(texts[1].p, "\xC3\xA4", 2), 0);
    buf_release(&arena);
    buf_release(&body);
}

/* --- one table, two sources -------------------------------------------------------- */

struct limits {
    int64_t bytes, lasting;
    int most, word, inner;
    double share;
    char *name;
};

static const char *const words[] = {"few", "many", NULL};
static const struct key inner_table[] = {
    {.name = "n", .type = KEY_INT, .offset = offsetof(struct limits, inner), .max = 9},
    {0},
};
static const struct key limits_table[] = {
    {.name = "bytes", .type = KEY_SIZE, .offset = offsetof(struct limits, bytes), .max = 1 << 20},
    {.name = "lasting", .type = KEY_DURATION, .offset = offsetof(struct limits, lasting), .max = 60000},
    {.name = "most", .type = KEY_INT, .offset = offsetof(struct limits, most), .max = 7},
    {.name = "word", .type = KEY_WORD, .offset = offsetof(struct limits, word), .words = words},
    {.name = "share", .type = KEY_NUMBER, .offset = offsetof(struct limits, share)},
    {.name = "name", .type = KEY_TEXT, .offset = offsetof(struct limits, name)},
    {.name = "inner", .type = KEY_MAP, .members = inner_table},
    {0},
};

static void read_yaml(const char *text, struct limits *limits, struct faults *faults)
{
    struct yaml *doc = yaml_parse(span_of(text), faults);
    struct keys_input in = {doc, "/", faults};
    keys_read(&in, yaml_root(doc), "", &(struct key_section){.keys = limits_table, .target = limits}, 1);
    yaml_free(doc);
}

static void read_json(const char *text, struct limits *limits, struct faults *faults)
{
    struct buf arena = {0};
    keys_read_json(&(struct keys_json){faults, &arena}, NULL, span_of(text), limits_table, limits);
    buf_release(&arena);
}

Test(keys, of_one_table_are_read_from_a_configuration_and_from_a_body)
{
    static void (*const sources[])(const char *, struct limits *, struct faults *) = {read_yaml, read_json};
    for (int i = 0; i < 2; i++) {
        struct limits limits = {0};
        struct faults faults = {0};
        sources[i](
            "{\"bytes\": \"64KiB\", \"lasting\": \"1.5s\", \"most\": 7, \"word\": \"many\", \"share\": 0.5, "
            "\"name\": \"n\", \"inner\": {\"n\": 3}}",
            &limits, &faults);
        cr_assert_eq(faults.total, 0, "%s: %s", faults.items[0].pointer, faults.items[0].detail);
        cr_expect_eq(limits.bytes, 65536);
        cr_expect_eq(limits.lasting, 1500);
        cr_expect_eq(limits.most, 7);
        cr_expect_eq(limits.word, 1);
        cr_expect_float_eq(limits.share, 0.5, 1e-9);
        cr_expect_str_eq(limits.name, "n");
        cr_expect_eq(limits.inner, 3);
        keys_release(limits_table, &limits);
    }
}

Test(keys, are_faulty_at_the_same_places_whatever_they_come_from)
{
    static void (*const sources[])(const char *, struct limits *, struct faults *) = {read_yaml, read_json};
    for (int i = 0; i < 2; i++) {
        static const char *const pointers[] = {"/bytes", "/most", "/word", "/share", "/inner/n", "/unheard"};
        struct limits limits = {0};
        struct faults faults = {0};
        sources[i](
            "{\"bytes\": \"2MiB\", \"most\": 8, \"word\": \"none\", \"share\": \"x\", \"inner\": {\"n\": -1}, "
            "\"unheard\": 1}",
            &limits, &faults);
        cr_assert_eq(faults.count, 6);
        for (int n = 0; n < 6; n++)
            cr_expect_str_eq(faults.items[n].pointer, pointers[n]);
        faults_release(&faults);
        keys_release(limits_table, &limits);
    }
}
