#include "workers/kinds/command/argv.h"
#include "workers/kinds/command/command.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static struct command_task definition;

static struct task command(char **words)
{
    definition = (struct command_task){.program.run = words};
    return (struct task){.name = "command", .kind = &command_kind, .definition = &definition};
}

#define WORDS(...) ((char *[]){__VA_ARGS__, NULL})

Test(argv, placeholders_become_text_or_json_and_stay_one_word)
{
    static const struct {
        const char *element, *args, *word;
    } rows[] = {
        {"plain", "{}", "plain"},
        {"plain", NULL, "plain"},
        {"", "{}", ""},
        {"{x}", "{\"x\":\"a b; rm -rf $HOME `x`\"}", "a b; rm -rf $HOME `x`"},
        {"{x}", "{\"x\":\"--flag\"}", "--flag"},
        {"{x}", "{\"x\":\"\"}", ""},
        {"{x}", "{\"x\":\"{y}\",\"y\":1}", "{y}"},
        {"{x}", "{\"x\":\"\\u00e4\\n\\ud83d\\ude00\\\"\\/\"}", "\u00e4\n\U0001F600\"/"},
        {"{x}", "{\"x\":1.10}", "1.10"},
        {"{x}", " { \"x\" : 123456789012345678901234567890 } ", "123456789012345678901234567890"},
        {"{x}", "{\"x\":1e400}", "1e400"},
        {"{x}", "{\"x\":true}", "true"},
        {"{x}", "{\"x\":null}", "null"},
        {"{x}", "{\"x\":[1,  2]}", "[1,  2]"},
        {"{x}", "{\"x\":{\"b\":1, \"a\":\"\\u0000\"}}", "{\"b\":1, \"a\":\"\\u0000\"}"},
        {"--from={x},{y}--", "{\"y\":2,\"x\":\"1\"}", "--from=1,2--"},
        {"{x}{x}", "{\"x\":\"ab\"}", "abab"},
        {"{{x}}", "{\"x\":1}", "{x}"},
        {"{x}", "{\"\\u0078\":5}", "5"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char *element = strdup(rows[i].element);
        struct task task = command(WORDS("program", element, "last"));
        struct faults faults = {0};
        struct argv argv;
        cr_assert_eq(argv_expand(&task, span_of(rows[i].args), &argv, &faults), OK, "row %zu", i);
        cr_expect_str_eq(argv.words[0], "program");
        cr_expect_str_eq(argv.words[1], rows[i].word, "row %zu: %s", i, argv.words[1]);
        cr_expect_str_eq(argv.words[2], "last");
        cr_expect_null(argv.words[3]);
        cr_expect_eq(faults.total, 0);
        argv_release(&argv);
        free(element);
    }
}

Test(argv, everything_that_is_wrong_is_named_with_its_place)
{
    static const struct {
        const char *element, *args, *pointer, *detail;
    } rows[] = {
        {"{x}", "{}", "/args/x", "missing"},        {"{x}", NULL, "/args/x", "missing"},
        {"{x}", "[1]", "/args/x", "missing"},       {"{x}", "7", "/args/x", "missing"},
        {"{x}", "{\"X\":1}", "/args/x", "missing"}, {"{x}", "{\"x\":\"a\\u0000b\"}", "/args/x", "\\u0000"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char *element = strdup(rows[i].element);
        struct task task = command(WORDS("program", element));
        struct faults faults = {0};
        cr_assert_eq(argv_check(&task, span_of(rows[i].args), &faults), ERR_INVALID, "row %zu", i);
        cr_assert_eq(faults.count, 1, "row %zu", i);
        cr_expect_str_eq(faults.items[0].pointer, rows[i].pointer, "row %zu", i);
        cr_expect(strstr(faults.items[0].detail, rows[i].detail), "row %zu: %s", i, faults.items[0].detail);
        cr_expect_eq(argv_check(&task, span_of(rows[i].args), NULL), ERR_INVALID);
        faults_release(&faults);
        free(element);
    }
}

Test(argv, all_faults_come_at_once)
{
    struct task task = command(WORDS("program", "{a}", "{b}", "{c}"));
    struct faults faults = {0};
    cr_expect_eq(argv_check(&task, SPAN("{\"b\":\"\\u0000\"}"), &faults), ERR_INVALID);
    cr_expect_eq(faults.count, 3);
    faults_release(&faults);
}

static enum err check_length(size_t length, struct faults *faults)
{
    struct task task = command(WORDS("program", "{x}"));
    struct buf args = {0};
    buf_addl(&args, "{\"x\":\"");
    for (size_t i = 0; i < length; i++)
        buf_addc(&args, 'a');
    buf_addl(&args, "\"}");
    enum err err = argv_check(&task, buf_span(&args), faults);
    buf_release(&args);
    return err;
}

Test(argv, a_word_longer_than_the_kernel_takes_is_refused)
{
    struct faults faults = {0};
    cr_expect_eq(check_length(128 * 1024 - 1, &faults), OK);
    cr_expect_eq(faults.total, 0);
    cr_expect_eq(check_length(128 * 1024, &faults), ERR_INVALID);
    cr_assert_eq(faults.count, 1);
    cr_expect_str_eq(faults.items[0].pointer, "/args/x");
    faults_release(&faults);
}
