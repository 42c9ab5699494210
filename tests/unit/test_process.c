/* What a pool's child says: lines out of pieces, and what each line means. */
#include "base/lines.h"
#include "workers/kinds/pool/message.h"

#include <criterion/criterion.h>
#include <stdlib.h>

/* --- lines ------------------------------------------------------------------------- */

/* What comes of a text that arrives in pieces of so many bytes: the lines, a | after each. */
static char *lines_of(const char *text, size_t piece)
{
    struct lines lines = {0};
    struct buf out = {0};
    struct span line;
    for (size_t at = 0, n = strlen(text); at < n; at += piece) {
        lines_add(&lines, (struct span){text + at, n - at < piece ? n - at : piece});
        while (lines_next(&lines, &line)) {
            buf_add_span(&out, line);
            buf_addc(&out, '|');
        }
        cr_expect_not(lines_are_too_long(&lines));
    }
    lines_release(&lines);
    return buf_take(&out);
}

Test(process, lines_are_the_same_however_they_arrive)
{
    static const struct {
        const char *text, *lines;
    } rows[] = {
        {"a\n", "a|"}, {"a\nb\n", "a|b|"}, {"a\nb", "a|"}, {"\n\n", "||"},           {"a\r\nb\r\n", "a|b|"},
        {"\r\n", "|"}, {"", ""},           {"no end", ""}, {"a b\n c\n", "a b| c|"}, {"\ra\n", "\ra|"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t piece = 1; piece < 9; piece++) {
            char *lines = lines_of(rows[i].text, piece);
            cr_expect_str_eq(lines, rows[i].lines, "row %zu in pieces of %zu: %s", i, piece, lines);
            free(lines);
        }
}

Test(process, a_line_is_too_long_at_its_limit_and_not_before)
{
    for (int over = 0; over < 2; over++) {
        struct lines lines = {0};
        struct span line = {NULL, 0};
        size_t length = LINE_BYTES_MAX - 1 + (size_t)over;
        char *text = malloc(length + 1);
        memset(text, 'x', length);
        text[length] = '\n';
        lines_add(&lines, (struct span){text, length});
        cr_expect_not(lines_next(&lines, &line));
        cr_expect_eq(lines_are_too_long(&lines), over);
        lines_add(&lines, (struct span){text + length, 1});
        cr_expect_eq(lines_next(&lines, &line), !over);
        cr_expect_eq(line.len, over ? 0 : length);
        cr_expect_eq(lines_are_too_long(&lines), over);
        lines_release(&lines);
        free(text);
    }
}

/* --- messages ------------------------------------------------------------------------ */

static struct buf text, arena;
static struct reason why;

static void forget(void)
{
    buf_release(&text);
    buf_release(&arena);
}

TestSuite(process, .fini = forget);

/* A line with ' for ". */
static bool read_line(const char *line, struct message *message)
{
    forget();
    buf_adds(&text, line);
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] == '\'')
            text.data[i] = '"';
    why.text[0] = '\0';
    return message_read(buf_span(&text), message, &arena, &why);
}

Test(process, a_message_says_what_it_means)
{
    struct message m;
    cr_assert(read_line("{'type':'ready','protocol':1,'client':'a\\u0062c'}", &m), "%s", why.text);
    cr_expect(m.type == MESSAGE_READY && m.protocol == 1 && span_is(m.client, "abc"));
    cr_assert(read_line("{'type':'done','run':7,'result':{'a' : 1.50}}", &m), "%s", why.text);
    cr_expect(m.type == MESSAGE_DONE && m.run == 7 && span_is(m.result, "{\"a\" : 1.50}"));
    cr_assert(read_line("{'run':7,'type':'done'}", &m), "%s", why.text);
    cr_expect(m.type == MESSAGE_DONE && !m.result.p);
    cr_assert(read_line("{'type':'failed','run':7,'error':{'type':'E','message':'m','retry_after':'5s'}}", &m));
    cr_expect(m.type == MESSAGE_FAILED && span_is(m.error.type, "E") && m.error.retry_after_ms == 5000);
    cr_expect_eq(m.error.again, AGAIN_AS_CONFIGURED);
    cr_assert(read_line("{'type':'progress','run':7,'value':1e-1,'note':'n\\n'}", &m));
    cr_expect(m.type == MESSAGE_PROGRESS && m.value == 0.1 && span_is(m.text, "n\n"));
    cr_assert(read_line("{'type':'progress','run':7,'value':1,'note':null}", &m));
    cr_expect_null(m.text.p);
    cr_assert(read_line("{'type':'log','text':'','stream':'stdout'}", &m));
    cr_expect(m.type == MESSAGE_LOG && m.run == 0 && m.text.p && !m.text.len && m.stream == STREAM_STDOUT);
    cr_assert(read_line("{'type':'log','run':3,'text':'x'}", &m));
    cr_expect(m.run == 3 && m.stream == STREAM_STDERR);
    cr_assert(read_line("{'type':'step','run':3,'seq':9007199254740991,'whatever':[]}", &m));
    cr_expect(m.type == MESSAGE_REQUEST && m.asked == ASKED_STEP && m.seq == INT64_C(9007199254740991));
    cr_assert(read_line("", &m));
    cr_expect_eq(m.type, MESSAGE_NONE);
}

Test(process, a_message_that_is_none_says_why)
{
    static const struct {
        const char *line, *why;
    } rows[] = {
        {"x", "a line is not valid JSON"},
        {"{'type':'done','type':'done'}", "comes twice"},
        {"7", "a line is no object with a `type`"},
        {"[]", "a line is no object with a `type`"},
        {"{}", "a line is no object with a `type`"},
        {"{'type':7}", "there is no message of the type 7"},
        {"{'type':'Done'}", "there is no message of the type"},
        {"{'type':'don\\u0065','run':1}", "there is no message of the type"},
        {"{'type':'ready'}", "its `ready` is wrong: /protocol is missing"},
        {"{'type':'ready','protocol':0}", "/protocol"},
        {"{'type':'ready','protocol':'1'}", "/protocol"},
        {"{'type':'ready','protocol':1,'tasks':[]}", "/tasks"},
        {"{'type':'done'}", "its `done` is wrong: /run is missing"},
        {"{'type':'done','run':0}", "/run must be a whole number from 1"},
        {"{'type':'done','run':1.5}", "/run must be a whole number from 1"},
        {"{'type':'done','run':-1}", "/run must be a whole number from 1"},
        {"{'type':'done','run':9007199254740992}", "/run must be a whole number from 1"},
        {"{'type':'done','run':'1'}", "/run must be a whole number from 1"},
        {"{'type':'failed','run':1}", "/error is missing"},
        {"{'type':'failed','run':1,'error':{}}", "/error/type is missing"},
        {"{'type':'failed','run':1,'error':{'type':''}}", "/error/type"},
        {"{'type':'failed','run':1,'error':{'type':'x','retry':1}}", "/error/retry must be true or false"},
        {"{'type':'progress','run':1}", "/value is missing"},
        {"{'type':'progress','run':1,'value':1e999}", "/value must be a number"},
        {"{'type':'log','run':1}", "/text is missing"},
        {"{'type':'log','text':7}", "/text must be a string"},
        {"{'type':'log','text':'','stream':'out'}", "/stream must be"},
        {"{'type':'wait','run':1}", "/seq is missing"},
        {"{'type':'wait','seq':1}", "/run is missing"},
        {"{'type':'wait','run':1,'seq':0}", "/seq must be a whole number from 1"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct message m;
        cr_expect_not(read_line(rows[i].line, &m), "%s", rows[i].line);
        cr_expect(strstr(why.text, rows[i].why), "%s: %s", rows[i].line, why.text);
    }
}
